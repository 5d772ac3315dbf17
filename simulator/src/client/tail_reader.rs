//! A client that asks how far the log goes: the leader, with a majority's word, or any replica.

use lockstep::random::Random;
use lockstep_checker::Tail;
use lockstep_client::retry::{Failure, Repeat, Retry};
use lockstep_client::sans_io::{Target, judge};
use lockstep_protocol::native::{TailRequest, TailResponse};
use lockstep_protocol::{Outcome, Wire};

use super::core::{Connected, Core, News};
use super::{Surroundings, Told};
use crate::ledger::Ledger;
use crate::plan::LoadSettings;
use crate::queue::{MILLISECOND, Time};
use crate::server::TOPIC;

struct Asked {
    correlation: u32,
    connected: Connected,
    at: Time,
    deadline: Time,
}

/// The one who asks.
pub struct TailReader {
    core: Core,
    partition: u32,
    random: Random,
    reader: u64,
    confirmed: bool,
    asked: Option<Asked>,
    retry: Option<Retry>,
    resume_at: Time,
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
        Self {
            core: Core::new(nodes, load, random.next_u64()),
            partition,
            random,
            reader: ledger.client(),
            confirmed: true,
            asked: None,
            retry: None,
            resume_at: 100 * MILLISECOND,
        }
    }

    /// Takes news in and does what can be done now.
    pub fn act(&mut self, told: Told, around: &mut Surroundings<'_>) {
        match self.core.hear(told, around) {
            News::Answer(frame)
                if self.asked.as_ref().is_some_and(|asked| asked.correlation == frame.correlation) =>
            {
                match Outcome::<TailResponse>::decode(&frame.meta) {
                    Ok(Ok(answer)) => self.told(&answer, around),
                    Ok(Err(refusal)) => self.failed(Failure::Refused(refusal), around),
                    Err(error) => self.failed(Failure::Garbled(error.to_string()), around),
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

    fn told(&mut self, answer: &TailResponse, around: &mut Surroundings<'_>) {
        let Some(asked) = self.asked.take() else { return };
        let tail = Tail {
            reader: self.reader,
            node: asked.connected.0,
            confirmed: self.confirmed,
            invoked: asked.at,
            completed: around.now,
            high_watermark: answer.high_watermark,
        };
        around.ledger.tail(self.partition, tail);
        self.retry = None;
        self.confirmed = self.random.below(4) != 0;
        self.resume_at = around.now + self.random.below(20) * MILLISECOND;
    }

    fn target(&self) -> Target<'static> {
        if self.confirmed {
            Target::Leader(TOPIC, self.partition)
        } else {
            Target::Replica(TOPIC, self.partition, None)
        }
    }

    fn ask(&mut self, around: &mut Surroundings<'_>) {
        if let Some(asked) = &self.asked {
            return self.core.wake_at(asked.deadline, around);
        }
        if around.now < self.resume_at {
            return self.core.wake_at(self.resume_at, around);
        }
        let attempt = self.retry.as_ref().map_or(0, Retry::failures);
        let connected = match self.core.route(self.target(), attempt, around) {
            None => return,
            Some(Err((_, failure))) => {
                self.failed(failure, around);
                return self.core.wake_at(self.resume_at, around);
            }
            Some(Ok(connected)) => connected,
        };
        let request =
            TailRequest { topic: TOPIC.to_owned(), partition: self.partition, linearizable: self.confirmed };
        let correlation = self.core.send(connected.1, &request, Vec::new(), around);
        let deadline = around.now + self.core.request_timeout();
        self.asked = Some(Asked { correlation, connected, at: around.now, deadline });
        self.core.wake_at(deadline, around);
    }

    fn failed(&mut self, failure: Failure, around: &mut Surroundings<'_>) {
        let node = self.asked.take().map(|asked| asked.connected.0);
        let mut retry = self.retry.take().unwrap_or_else(|| self.core.retry(Repeat::Harmless, around.now));
        let now = Core::clock(around.now);
        let target = self.target();
        let verdict =
            judge(&mut retry, &mut self.core.routing, target, node, failure, now, &mut self.core.jitter);
        self.resume_at = around.now
            + match verdict {
                Ok(wait) => {
                    self.retry = Some(retry);
                    wait.as_nanos() as Time
                }
                Err(_) => 50 * MILLISECOND,
            };
    }
}
