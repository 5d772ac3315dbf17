//! One question at a time: sent, waited for, and asked again elsewhere where no answer comes.

use bytes::Bytes;
use lockstep_client::retry::{Failure, Repeat, Retry};
use lockstep_client::sans_io::{Target, judge};
use lockstep_protocol::{Frame, Request};

use super::core::{Connected, Core, News};
use super::{Surroundings, Told};
use crate::queue::Time;

/// A question that was sent.
pub struct Sent {
    /// To which node, and on which connection.
    pub connected: Connected,
    /// When.
    pub at: Time,
    correlation: u32,
    deadline: Time,
}

/// A client that asks one question after another.
pub struct Questions {
    /// Its connections and routes.
    pub core: Core,
    /// No question before this.
    pub resume_at: Time,
    sent: Option<Sent>,
    retry: Option<Retry>,
}

impl Questions {
    /// One that asks nothing before `resume_at`.
    pub fn new(core: Core, resume_at: Time) -> Self {
        Self { core, resume_at, sent: None, retry: None }
    }

    /// Takes news in: the answer to what was sent, or why there is none.
    pub fn hear(
        &mut self,
        told: Told,
        around: &mut Surroundings<'_>,
    ) -> Option<Result<(Frame, Sent), Failure>> {
        let news = self.core.hear(told, around);
        let sent = self.sent.as_ref()?;
        match news {
            News::Answer(frame) if sent.correlation == frame.correlation => {
                return self.sent.take().map(|sent| Ok((frame, sent)));
            }
            News::Lost(connection) if sent.connected.1 == connection => {
                return Some(Err(Failure::ConnectionLost));
            }
            _ => {}
        }
        (around.now >= sent.deadline).then_some(Err(Failure::TimedOut))
    }

    /// A connection to send the next question on; `None` while it is not time for it, or none is there yet.
    pub fn connection(
        &mut self,
        target: Target<'_>,
        around: &mut Surroundings<'_>,
    ) -> Option<Result<Connected, Failure>> {
        if let Some(sent) = &self.sent {
            self.core.wake_at(sent.deadline, around);
            return None;
        }
        if around.now < self.resume_at {
            self.core.wake_at(self.resume_at, around);
            return None;
        }
        let attempt = self.retry.as_ref().map_or(0, Retry::failures);
        Some(self.core.route(target, attempt, around)?.map_err(|(_, failure)| failure))
    }

    /// Sends a question; the answer may take as long as any, and `longer`.
    pub fn send<R: Request>(
        &mut self,
        connected: Connected,
        request: &R,
        longer: Time,
        around: &mut Surroundings<'_>,
    ) {
        let correlation = self.core.send(connected.1, request, Vec::<Bytes>::new(), around);
        let deadline = around.now + self.core.request_timeout() + longer;
        self.sent = Some(Sent { connected, at: around.now, correlation, deadline });
        self.core.wake_at(deadline, around);
    }

    /// It was answered: the next failure is a first one.
    pub fn succeeded(&mut self) {
        self.retry = None;
    }

    /// It failed: asked again when production would, or after `pause` where that would give up.
    pub fn failed(
        &mut self,
        target: Target<'_>,
        asked: Option<u64>,
        failure: Failure,
        pause: Time,
        around: &mut Surroundings<'_>,
    ) {
        let node = self.sent.take().map(|sent| sent.connected.0).or(asked);
        let mut retry = self.retry.take().unwrap_or_else(|| self.core.retry(Repeat::Harmless, around.now));
        let now = Core::clock(around.now);
        let verdict =
            judge(&mut retry, &mut self.core.routing, target, node, failure, now, &mut self.core.jitter);
        let wait = verdict.ok().map(|wait| wait.as_nanos() as Time);
        if wait.is_some() {
            self.retry = Some(retry);
        }
        self.resume_at = around.now + wait.unwrap_or(pause);
    }
}
