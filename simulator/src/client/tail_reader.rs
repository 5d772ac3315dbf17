//! A client that asks how far the log goes: the leader, with a majority's word, or any replica.

use lockstep::random::Random;
use lockstep_checker::Tail;
use lockstep_client::retry::Failure;
use lockstep_client::sans_io::Target;
use lockstep_protocol::native::{TailRequest, TailResponse};
use lockstep_protocol::{Outcome, Wire};

use super::core::Core;
use super::question::{Questions, Sent};
use super::{Surroundings, Told};
use crate::ledger::Ledger;
use crate::plan::LoadSettings;
use crate::queue::{MILLISECOND, Time};
use crate::server::TOPIC;

/// Where production would give up, it is asked again after this.
const PAUSE: Time = 50 * MILLISECOND;

/// The one who asks.
pub struct TailReader {
    questions: Questions,
    partition: u32,
    random: Random,
    reader: u64,
    confirmed: bool,
}

impl TailReader {
    /// One who asks about one partition.
    pub fn new(
        partition: u32,
        nodes: u64,
        load: LoadSettings,
        mut random: Random,
        ledger: &mut Ledger,
    ) -> Self {
        let core = Core::new(nodes, load, random.next_u64());
        Self {
            questions: Questions::new(core, 100 * MILLISECOND),
            partition,
            random,
            reader: ledger.client(),
            confirmed: true,
        }
    }

    /// Takes news in and does what can be done now.
    pub fn act(&mut self, told: Told, around: &mut Surroundings<'_>) {
        match self.questions.hear(told, around) {
            Some(Ok((frame, sent))) => match Outcome::<TailResponse>::decode(&frame.meta) {
                Ok(Ok(answer)) => self.told(&answer, &sent, around),
                Ok(Err(refusal)) => {
                    self.failed(Some(sent.connected.0), Failure::Refused(refusal), around);
                }
                Err(error) => {
                    self.failed(Some(sent.connected.0), Failure::Garbled(error.to_string()), around);
                }
            },
            Some(Err(failure)) => self.failed(None, failure, around),
            None => {}
        }
        self.ask(around);
    }

    fn told(&mut self, answer: &TailResponse, sent: &Sent, around: &mut Surroundings<'_>) {
        let tail = Tail {
            reader: self.reader,
            node: sent.connected.0,
            confirmed: self.confirmed,
            invoked: sent.at,
            completed: around.now,
            high_watermark: answer.high_watermark,
        };
        around.ledger.tail(self.partition, tail);
        self.questions.succeeded();
        self.confirmed = self.random.below(4) != 0;
        self.questions.resume_at = around.now + self.random.below(20) * MILLISECOND;
    }

    fn target(&self) -> Target<'static> {
        if self.confirmed {
            Target::Leader(TOPIC, self.partition)
        } else {
            Target::Replica(TOPIC, self.partition, None)
        }
    }

    fn ask(&mut self, around: &mut Surroundings<'_>) {
        let connected = match self.questions.connection(self.target(), around) {
            None => return,
            Some(Err(failure)) => {
                self.failed(None, failure, around);
                let resume_at = self.questions.resume_at;
                return self.questions.core.wake_at(resume_at, around);
            }
            Some(Ok(connected)) => connected,
        };
        let request =
            TailRequest { topic: TOPIC.to_owned(), partition: self.partition, linearizable: self.confirmed };
        self.questions.send(connected, &request, 0, around);
    }

    fn failed(&mut self, asked: Option<u64>, failure: Failure, around: &mut Surroundings<'_>) {
        self.questions.failed(self.target(), asked, failure, PAUSE, around);
    }
}
