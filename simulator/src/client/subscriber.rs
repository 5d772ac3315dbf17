//! A client that subscribes: from the start of the log on, through every crash and change of leader, for as long as the
//! run lasts. Where it goes on after a failure is production's [`Following`] to say.

use lockstep::random::Random;
use lockstep_checker::Read;
use lockstep_client::ConsumeError;
use lockstep_client::retry::{Failure, Repeat, Retry};
use lockstep_client::sans_io::{Ended, Following, Position, Target, Window, judge};
use lockstep_protocol::native::{SubscribeRequest, SubscribeResponse, TailRequest, UnsubscribeRequest};
use lockstep_protocol::{Frame, FrameKind, Outcome, Request, Wire};

use super::core::{Connected, Core, News};
use super::shown::records_of;
use super::{Surroundings, Told};
use crate::ledger::Ledger;
use crate::plan::LoadSettings;
use crate::queue::{MILLISECOND, Time};
use crate::server::TOPIC;

/// Where production would give up, it subscribes again after this.
const PAUSE: Time = 100 * MILLISECOND;
/// After this long without a push the broker is asked whether it still lives.
const SILENCE_MAX: Time = 500 * MILLISECOND;
/// Of so many pushes one is the last of its subscription: it goes on with another replica.
const PUSHES_PER_SUBSCRIPTION: u64 = 50;

/// The subscriber.
pub struct Subscriber {
    core: Core,
    partition: u32,
    random: Random,
    reader: u64,
    /// The replica it prefers.
    node: u64,
    following: Following,
    open: Option<Open>,
    retry: Option<Retry>,
    resume_at: Time,
    /// Where the replicas are is asked again before the next attempt.
    lost: bool,
    opened: u64,
    /// Why its last subscription, or attempt at one, ended.
    last_failure: Option<Failure>,
    complaint: Option<String>,
}

/// A subscription.
struct Open {
    connected: Connected,
    correlation: u32,
    at: Time,
    /// What is waited for, and until when.
    awaits: Awaits,
    until: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    /// That it is opened.
    Opening,
    /// A push.
    Push,
    /// A sign of life, or a push.
    Life(u32),
}

impl Subscriber {
    /// A subscriber to one partition.
    pub fn new(
        partition: u32,
        nodes: u64,
        load: LoadSettings,
        mut random: Random,
        ledger: &mut Ledger,
    ) -> Self {
        let node = 1 + random.below(nodes);
        let core = Core::new(nodes, load, random.next_u64());
        Self {
            core,
            partition,
            reader: ledger.client(),
            node,
            following: from(partition, 1, &mut random),
            random,
            open: None,
            retry: None,
            resume_at: 100 * MILLISECOND,
            lost: false,
            opened: 0,
            last_failure: None,
            complaint: None,
        }
    }

    /// What it was shown that cannot be.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Its partition, and the LSN that it is to be shown next.
    pub fn next(&self) -> (u32, u64) {
        (self.partition, self.following.position().next_lsn)
    }

    /// What it is waiting for, for people.
    pub fn state(&self) -> String {
        let open = self.open.as_ref().map(|open| (open.connected, open.awaits, open.until));
        let Self { node, opened, last_failure, resume_at, .. } = self;
        format!(
            "{opened} opened, now {open:?}, prefers node {node}, resumes at {resume_at}, failed last with \
             {last_failure:?}, {}",
            self.core.state()
        )
    }

    /// How many subscriptions were opened for it.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Takes news in and does what can be done now.
    pub fn act(&mut self, told: Told, around: &mut Surroundings<'_>) {
        match self.core.hear(told, around) {
            News::Answer(frame) => self.heard(frame, around),
            News::Lost(lost) if self.open.as_ref().is_some_and(|open| open.connected.1 == lost) => {
                self.failed(Failure::ConnectionLost, around);
            }
            News::Lost(_) | News::Nothing => {}
        }
        self.look_at_the_clock(around);
        self.subscribe(around);
    }

    fn heard(&mut self, frame: Frame, around: &mut Surroundings<'_>) {
        let Some(open) = &mut self.open else { return };
        let until = around.now + SILENCE_MAX;
        match open.awaits {
            Awaits::Life(asked) if asked == frame.correlation => {
                match Outcome::<<TailRequest as Request>::Response>::decode(&frame.meta) {
                    Ok(Ok(_)) => (open.awaits, open.until) = (Awaits::Push, until),
                    Ok(Err(refusal)) => self.failed(Failure::Refused(refusal), around),
                    Err(error) => self.failed(Failure::Garbled(error.to_string()), around),
                }
            }
            _ if open.correlation != frame.correlation => {}
            Awaits::Opening if frame.kind == FrameKind::Response => {
                match Outcome::<SubscribeResponse>::decode(&frame.meta) {
                    Ok(Ok(_)) => {
                        (open.awaits, open.until) = (Awaits::Push, until);
                        self.opened += 1;
                    }
                    Ok(Err(refusal)) => self.failed(Failure::Refused(refusal), around),
                    Err(error) => self.failed(Failure::Garbled(error.to_string()), around),
                }
            }
            _ => {
                (open.awaits, open.until) = (Awaits::Push, until);
                self.pushed(frame, around);
            }
        }
    }

    fn pushed(&mut self, frame: Frame, around: &mut Surroundings<'_>) {
        let pushed = match self.following.take(frame, self.failures()) {
            Ok(pushed) => pushed,
            Err(ended) => return self.ended(ended, around),
        };
        self.retry = None;
        let Some(Open { connected, correlation, at, .. }) = &self.open else { return };
        let (connected, correlation, invoked) = (*connected, *correlation, *at);
        let records = match records_of(&pushed.batches) {
            Ok(records) => records,
            Err(error) => return self.complaint = Some(error),
        };
        if let Some(first) = pushed.batches.first() {
            let read = Read {
                reader: self.reader,
                node: connected.0,
                from_lsn: first.first_lsn,
                invoked,
                completed: around.now,
                high_watermark: Some(first.high_watermark),
                records,
                continues: true,
            };
            around.ledger.read(self.partition, read);
        }
        if self.random.below(PUSHES_PER_SUBSCRIPTION) == 0 {
            self.unsubscribe(around);
            self.node = 1 + self.random.below(self.core.routing.nodes().count().max(1) as u64);
            return self.resume_at = around.now + self.random.below(30) * MILLISECOND;
        }
        if let Some(credit) = self.following.taken(&pushed, correlation) {
            self.core.send(connected.1, &credit, Vec::new(), around);
        }
    }

    /// Asks for a sign of life where nothing came for long, and gives up where none comes.
    fn look_at_the_clock(&mut self, around: &mut Surroundings<'_>) {
        let Some(open) = &mut self.open else { return };
        if around.now >= open.until && open.awaits != Awaits::Push {
            return self.failed(Failure::TimedOut, around);
        }
        if around.now >= open.until {
            let request =
                TailRequest { topic: TOPIC.to_owned(), partition: self.partition, linearizable: false };
            let asked = self.core.send(open.connected.1, &request, Vec::new(), around);
            (open.awaits, open.until) = (Awaits::Life(asked), around.now + self.core.request_timeout());
        }
        self.core.wake_at(open.until, around);
    }

    fn subscribe(&mut self, around: &mut Surroundings<'_>) {
        if self.open.is_some() {
            return;
        }
        if around.now < self.resume_at {
            return self.core.wake_at(self.resume_at, around);
        }
        if std::mem::take(&mut self.lost) {
            self.core.refresh(around);
        }
        let target = Target::Replica(TOPIC, self.partition, Some(self.node));
        let connected = match self.core.route(target, self.failures(), around) {
            None => return,
            Some(Err((_, failure))) => {
                self.failed(failure, around);
                return self.core.wake_at(self.resume_at, around);
            }
            Some(Ok(connected)) => connected,
        };
        let request: SubscribeRequest = self.following.subscribe();
        let correlation = self.core.send(connected.1, &request, Vec::new(), around);
        let until = around.now + self.core.request_timeout();
        self.open = Some(Open { connected, correlation, at: around.now, awaits: Awaits::Opening, until });
        self.core.wake_at(until, around);
    }

    fn failed(&mut self, failure: Failure, around: &mut Surroundings<'_>) {
        let ended = self.following.judge(failure, self.failures());
        self.ended(ended, around);
    }

    fn ended(&mut self, ended: Ended, around: &mut Surroundings<'_>) {
        match ended {
            Ended::Failed(failure) => self.retry(failure, around),
            // Where it begins somebody named as the start of the log.
            Ended::AskEnd => match self.following.judge_end(self.following.position().next_lsn) {
                Ok(failure) => self.retry(failure, around),
                Err(error) => self.complaint = Some(error.to_string()),
            },
            // The log forgot faster than it read: whoever reads on there is somebody else.
            Ended::Fatal(ConsumeError::BelowLogStart { log_start, .. }) => {
                self.unsubscribe(around);
                self.following = from(self.partition, log_start, &mut self.random);
                self.reader = around.ledger.client();
                self.resume_at = around.now + MILLISECOND;
            }
            Ended::Fatal(error) => self.complaint = Some(error.to_string()),
        }
    }

    fn retry(&mut self, failure: Failure, around: &mut Surroundings<'_>) {
        let node = self.open.as_ref().map(|open| open.connected.0);
        self.last_failure = Some(failure.clone());
        self.lost = true;
        self.unsubscribe(around);
        let mut retry = self.retry.take().unwrap_or_else(|| self.core.retry(Repeat::Harmless, around.now));
        let target = Target::Replica(TOPIC, self.partition, Some(self.node));
        let now = Core::clock(around.now);
        let verdict =
            judge(&mut retry, &mut self.core.routing, target, node, failure, now, &mut self.core.jitter);
        let wait = verdict.map(|wait| wait.as_nanos() as Time);
        if wait.is_ok() {
            self.retry = Some(retry);
        }
        self.resume_at = around.now + wait.unwrap_or(PAUSE);
    }

    /// Nothing is taken from the old subscription any more, and its broker is told so.
    fn unsubscribe(&mut self, around: &mut Surroundings<'_>) {
        if let Some(Open { connected, correlation, .. }) = self.open.take() {
            let request = UnsubscribeRequest { subscription: correlation };
            self.core.send(connected.1, &request, Vec::new(), around);
        }
    }

    fn failures(&self) -> u32 {
        self.retry.as_ref().map_or(0, Retry::failures)
    }
}

fn from(partition: u32, next_lsn: u64, random: &mut Random) -> Following {
    let window = Window { credit_bytes: 1 << (10 + random.below(8)), push_bytes_max: 1 << random.below(15) };
    Following::new(TOPIC.to_owned(), Position { partition, next_lsn }, None, true, window)
}
