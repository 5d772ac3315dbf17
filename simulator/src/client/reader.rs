//! A client that reads: in order from the start, or anywhere; each payload goes through the consumer's checks.

use lockstep::random::Random;
use lockstep_checker::{Read, RecordId, Records};
use lockstep_client::retry::{Failure, Repeat, Retry};
use lockstep_client::sans_io::{Position, Target, judge};
use lockstep_protocol::native::{FetchItem, FetchRequest, FetchResponse};
use lockstep_protocol::{ErrorCode, Frame, Outcome, Wire};

use super::core::{Connected, Core, News};
use super::{Surroundings, Told};
use crate::ledger::Ledger;
use crate::plan::LoadSettings;
use crate::queue::{MILLISECOND, Time};
use crate::server::TOPIC;

/// How long a fetch waits for records.
const WAIT_MS: u32 = 50;

struct Asked {
    correlation: u32,
    connected: Connected,
    from_lsn: u64,
    at: Time,
    deadline: Time,
}

/// The reader.
pub struct Reader {
    core: Core,
    partition: u32,
    random: Random,
    reader: u64,
    random_place: bool,
    position: Position,
    /// The last LSN it knows of.
    end: u64,
    restarted: bool,
    node: u64,
    asked: Option<Asked>,
    retry: Option<Retry>,
    resume_at: Time,
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
        Self {
            core: Core::new(nodes, load, random.next_u64()),
            partition,
            random,
            reader: ledger.client(),
            random_place,
            position: Position { partition, next_lsn: 1 },
            end: 0,
            restarted: true,
            node,
            asked: None,
            retry: None,
            resume_at: 100 * MILLISECOND,
            complaint: None,
        }
    }

    /// What it was shown that cannot be.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Takes news in and does what can be done now.
    pub fn act(&mut self, told: Told, around: &mut Surroundings<'_>) {
        match self.core.hear(told, around) {
            News::Answer(frame)
                if self.asked.as_ref().is_some_and(|asked| asked.correlation == frame.correlation) =>
            {
                if let Some(asked) = self.asked.take() {
                    self.answered(&frame, asked, around);
                }
            }
            News::Lost(connection)
                if self.asked.as_ref().is_some_and(|asked| asked.connected.1 == connection) =>
            {
                self.failed(Failure::ConnectionLost, around);
            }
            _ => {}
        }
        if self.asked.as_ref().is_some_and(|asked| around.now >= asked.deadline) {
            self.failed(Failure::TimedOut, around);
        }
        self.ask(around);
    }

    fn ask(&mut self, around: &mut Surroundings<'_>) {
        if let Some(asked) = &self.asked {
            return self.core.wake_at(asked.deadline, around);
        }
        if around.now < self.resume_at {
            return self.core.wake_at(self.resume_at, around);
        }
        let attempt = self.retry.as_ref().map_or(0, Retry::failures);
        let target = Target::Replica(TOPIC, self.partition, Some(self.node));
        let connected = match self.core.route(target, attempt, around) {
            None => return,
            Some(Err((_, failure))) => {
                self.failed(failure, around);
                return self.core.wake_at(self.resume_at, around);
            }
            Some(Ok(connected)) => connected,
        };
        let from_lsn = self.position.next_lsn;
        let item = FetchItem {
            topic: TOPIC.to_owned(),
            partition: self.partition,
            from_lsn,
            max_bytes: 1 << self.random.below(17),
        };
        let request =
            FetchRequest { max_wait_ms: WAIT_MS, min_bytes: 1, max_bytes: 1 << 20, items: vec![item] };
        let correlation = self.core.send(connected.1, &request, Vec::new(), around);
        let deadline = around.now + self.core.request_timeout() + u64::from(WAIT_MS) * MILLISECOND;
        self.asked = Some(Asked { correlation, connected, from_lsn, at: around.now, deadline });
        self.core.wake_at(deadline, around);
    }

    fn answered(&mut self, frame: &Frame, asked: Asked, around: &mut Surroundings<'_>) {
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
                self.retry = None;
                let taken = self.position.take(payload, self.restarted, fetched.high_watermark);
                match taken {
                    Ok(batches) => {
                        self.restarted &= batches.is_empty();
                        let mut records = Records::default();
                        for record in batches.iter().flat_map(|batch| batch.records()) {
                            match record {
                                Ok(record) => {
                                    let id = record.value.and_then(|value| RecordId::parse(&value));
                                    let id = id.unwrap_or(RecordId::FOREIGN);
                                    records.push(record.lsn, id);
                                }
                                Err(error) => self.complaint = Some(error.to_string()),
                            }
                        }
                        self.showed(asked, fetched.high_watermark, records, around);
                    }
                    Err(error) => {
                        self.complaint = Some(format!("from node {}: {error}", asked.connected.0));
                    }
                }
            }
            Err(refusal) if refusal.code == ErrorCode::LsnBelowLogStart => {
                self.position.next_lsn = refusal.detail;
                self.restarted = true;
            }
            Err(refusal) if refusal.code == ErrorCode::LsnBeyondTail => {
                self.resume_at = around.now + 20 * MILLISECOND;
            }
            Err(refusal) => self.failed(Failure::Refused(refusal), around),
        }
    }

    fn showed(&mut self, asked: Asked, high_watermark: u64, records: Records, around: &mut Surroundings<'_>) {
        self.end = self.end.max(high_watermark);
        let idle = records.runs().is_empty();
        let read = Read {
            reader: self.reader,
            node: asked.connected.0,
            from_lsn: asked.from_lsn,
            invoked: asked.at,
            completed: around.now,
            high_watermark: Some(high_watermark),
            records,
        };
        around.ledger.read(self.partition, read);
        if self.random_place {
            self.position.next_lsn = 1 + self.random.below(self.end + 1);
            self.restarted = true;
            self.node = 1 + self.random.below(self.core.routing.nodes().count().max(1) as u64);
            self.resume_at = around.now + self.random.below(30) * MILLISECOND;
        } else if idle {
            self.resume_at = around.now + MILLISECOND;
        }
    }

    fn failed(&mut self, failure: Failure, around: &mut Surroundings<'_>) {
        let node = self.asked.take().map(|asked| asked.connected.0);
        let mut retry = self.retry.take().unwrap_or_else(|| self.core.retry(Repeat::Harmless, around.now));
        let target = Target::Replica(TOPIC, self.partition, Some(self.node));
        let now = Core::clock(around.now);
        let verdict =
            judge(&mut retry, &mut self.core.routing, target, node, failure, now, &mut self.core.jitter);
        self.restarted = true;
        self.resume_at = around.now
            + match verdict {
                Ok(wait) => {
                    self.retry = Some(retry);
                    wait.as_nanos() as Time
                }
                Err(_) => 100 * MILLISECOND,
            };
    }
}
