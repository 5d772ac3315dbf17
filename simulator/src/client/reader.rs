//! A client that reads: in order from the start, or anywhere; each payload goes through the consumer's checks.

use lockstep::random::Random;
use lockstep_checker::{Read, Records};
use lockstep_client::retry::Failure;
use lockstep_client::sans_io::{Position, Target};
use lockstep_protocol::native::{FetchItem, FetchRequest, FetchResponse};
use lockstep_protocol::{ErrorCode, Frame, Outcome, Wire};

use super::core::Core;
use super::question::{Questions, Sent};
use super::shown::records_of;
use super::{Surroundings, Told};
use crate::ledger::Ledger;
use crate::plan::LoadSettings;
use crate::queue::{MILLISECOND, Time};
use crate::server::TOPIC;

/// How long a fetch waits for records.
const WAIT_MS: u32 = 50;
/// Where production would give up, it is asked again after this.
const PAUSE: Time = 100 * MILLISECOND;

/// The reader.
pub struct Reader {
    questions: Questions,
    partition: u32,
    random: Random,
    reader: u64,
    random_place: bool,
    position: Position,
    /// The LSN it asked for.
    from_lsn: u64,
    /// The last LSN it knows of.
    end: u64,
    restarted: bool,
    node: u64,
    complaint: Option<String>,
}

impl Reader {
    /// A reader of one partition.
    pub fn new(
        random_place: bool,
        partition: u32,
        nodes: u64,
        load: LoadSettings,
        mut random: Random,
        ledger: &mut Ledger,
    ) -> Self {
        let node = 1 + random.below(nodes);
        let core = Core::new(nodes, load, random.next_u64());
        Self {
            questions: Questions::new(core, 100 * MILLISECOND),
            partition,
            random,
            reader: ledger.client(),
            random_place,
            position: Position { partition, next_lsn: 1 },
            from_lsn: 1,
            end: 0,
            restarted: true,
            node,
            complaint: None,
        }
    }

    /// What it was shown that cannot be.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Takes news in and does what can be done now.
    pub fn act(&mut self, told: Told, around: &mut Surroundings<'_>) {
        match self.questions.hear(told, around) {
            Some(Ok((frame, sent))) => self.answered(&frame, &sent, around),
            Some(Err(failure)) => self.failed(failure, around),
            None => {}
        }
        self.ask(around);
    }

    fn ask(&mut self, around: &mut Surroundings<'_>) {
        let target = Target::Replica(TOPIC, self.partition, Some(self.node));
        let connected = match self.questions.connection(target, around) {
            None => return,
            Some(Err(failure)) => {
                self.failed(failure, around);
                let resume_at = self.questions.resume_at;
                return self.questions.core.wake_at(resume_at, around);
            }
            Some(Ok(connected)) => connected,
        };
        self.from_lsn = self.position.next_lsn;
        let item = FetchItem {
            topic: TOPIC.to_owned(),
            partition: self.partition,
            from_lsn: self.from_lsn,
            max_bytes: 1 << self.random.below(17),
        };
        let request =
            FetchRequest { max_wait_ms: WAIT_MS, min_bytes: 1, max_bytes: 1 << 20, items: vec![item] };
        self.questions.send(connected, &request, u64::from(WAIT_MS) * MILLISECOND, around);
    }

    fn answered(&mut self, frame: &Frame, sent: &Sent, around: &mut Surroundings<'_>) {
        let response = match Outcome::<FetchResponse>::decode(&frame.meta) {
            Ok(Ok(response)) => response,
            Ok(Err(refusal)) => return self.failed(Failure::Refused(refusal), around),
            Err(error) => return self.failed(Failure::Garbled(error.to_string()), around),
        };
        let payload = response.split_payload(&frame.payload).ok().and_then(|mut parts| parts.pop());
        let (Some(payload), Some(item)) = (payload, response.items.into_iter().next()) else {
            return self
                .failed(Failure::Garbled("no item, or lengths that do not add up".to_owned()), around);
        };
        match item {
            Ok(fetched) => {
                self.questions.succeeded();
                let taken = self.position.take(payload, self.restarted, fetched.high_watermark);
                match taken {
                    Ok(batches) => {
                        self.restarted &= batches.is_empty();
                        match records_of(&batches) {
                            Ok(records) => self.showed(sent, fetched.high_watermark, records, around),
                            Err(error) => self.complaint = Some(error),
                        }
                    }
                    Err(error) => {
                        self.complaint = Some(format!("from node {}: {error}", sent.connected.0));
                    }
                }
            }
            Err(refusal) if refusal.code == ErrorCode::LsnBelowLogStart => {
                self.position.next_lsn = refusal.detail;
                self.restarted = true;
            }
            Err(refusal) if refusal.code == ErrorCode::LsnBeyondTail => {
                self.questions.resume_at = around.now + 20 * MILLISECOND;
            }
            Err(refusal) => self.failed(Failure::Refused(refusal), around),
        }
    }

    fn showed(&mut self, sent: &Sent, high_watermark: u64, records: Records, around: &mut Surroundings<'_>) {
        self.end = self.end.max(high_watermark);
        let idle = records.runs().is_empty();
        let read = Read {
            reader: self.reader,
            node: sent.connected.0,
            from_lsn: self.from_lsn,
            invoked: sent.at,
            completed: around.now,
            high_watermark: Some(high_watermark),
            records,
            continues: false,
        };
        around.ledger.read(self.partition, read);
        if self.random_place {
            self.position.next_lsn = 1 + self.random.below(self.end + 1);
            self.restarted = true;
            self.node = 1 + self.random.below(self.questions.core.routing.nodes().count().max(1) as u64);
            self.questions.resume_at = around.now + self.random.below(30) * MILLISECOND;
        } else if idle {
            self.questions.resume_at = around.now + MILLISECOND;
        }
    }

    fn failed(&mut self, failure: Failure, around: &mut Surroundings<'_>) {
        let target = Target::Replica(TOPIC, self.partition, Some(self.node));
        self.questions.failed(target, None, failure, PAUSE, around);
        self.restarted = true;
    }
}
