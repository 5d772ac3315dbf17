//! What is going to happen, and when: the simulator's only clock.
//!
//! What holds: events come out by (time, order of insertion), so equal runs stay equal. Virtual time jumps from one
//! event to the next; nothing ever waits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;

use crate::brokers::{Question, Reply};

/// Nanoseconds of virtual time since the run began.
pub type Time = u64;

/// One microsecond.
pub const MICROSECOND: Time = 1_000;
/// One millisecond.
pub const MILLISECOND: Time = 1_000 * MICROSECOND;
/// One second.
pub const SECOND: Time = 1_000 * MILLISECOND;

/// Something that happens. A `life` tells a node's process from earlier and later ones.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are named for what they are")]
pub enum Event {
    /// A node's timer fires.
    Tick { node: u64, life: u64 },
    /// A node's worker looks at what came in.
    Turn { node: u64, life: u64 },
    /// A node looks at its disk's free space.
    FreeSpace { node: u64, life: u64 },
    /// A node's scrub reads on.
    Scrub { node: u64, life: u64 },
    /// A write group of a node's shard is carried out.
    Disk { node: u64, life: u64, shard: u64 },
    /// Work off a shard's turn is carried out.
    Job { node: u64, life: u64, job: u64 },
    /// A node's machine is switched on, or its process started.
    Start { node: u64 },
    /// A frame between two nodes arrives.
    Peer { from: u64, to: u64, connection: u64, frame: Bytes },
    /// A node hears that another's connection closed.
    PeerLost { node: u64, life: u64, lost: u64 },
    /// A node has a connection to another, for the first time or again.
    PeerFound { node: u64, life: u64, found: u64 },
    /// A client's bytes reach a node.
    Request { connection: u64, frame: Bytes },
    /// A node's bytes reach a client.
    Response { client: usize, connection: u64, frame: Bytes },
    /// A client hears that its connection closed.
    Closed { client: usize, connection: u64 },
    /// A client's attempt to connect ends.
    Dialed { client: usize, node: u64, connection: Option<u64> },
    /// A node gives a client's request up.
    Deadline { node: u64, life: u64, token: u64 },
    /// A client looks at the time.
    Wake { client: usize },
    /// A part of the plan begins.
    Fault { part: usize },
    /// It ends.
    FaultEnds { part: usize },
    /// Every leader takes the next step of its shard's move.
    Moves,
    /// A process that was asked to stop looks whether it can.
    Stopping { node: u64, life: u64 },
    /// The next node of a rolling restart stops.
    RollOn,
    /// A broker sees to the cluster.
    Broker { node: u64, life: u64 },
    /// People look at what became of what they asked for.
    Errands,
    /// A broker is asked for a change of the metadata.
    Question { to: u64, question: Box<Question> },
    /// Whoever asked hears what became of it.
    Reply { to: u64, number: u64, reply: Box<Reply> },
}

impl Event {
    /// Whether it is a mere timer: a span in which only such events wait is idle.
    fn is_timer(&self) -> bool {
        matches!(
            self,
            Self::Tick { .. }
                | Self::FreeSpace { .. }
                | Self::Scrub { .. }
                | Self::Wake { .. }
                | Self::Deadline { .. }
                | Self::Fault { .. }
                | Self::FaultEnds { .. }
                | Self::Moves
                | Self::Stopping { .. }
                | Self::RollOn
                | Self::Broker { .. }
                | Self::Errands
        )
    }
}

struct Due {
    at: Time,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The events to come.
#[derive(Default)]
pub struct Queue {
    now: Time,
    order: u64,
    due: BinaryHeap<Reverse<Due>>,
    /// Events that are not mere timers.
    busy: usize,
    idle: Time,
}

impl Queue {
    /// What time it is.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The part of the time so far in which nothing was under way but timers.
    pub fn idle(&self) -> Time {
        self.idle
    }

    /// Lets something happen `after` from now.
    pub fn after(&mut self, after: Time, event: Event) {
        self.order += 1;
        self.busy += usize::from(!event.is_timer());
        self.due.push(Reverse(Due { at: self.now + after, order: self.order, event }));
    }

    /// The next event, if it is due by `until`; time goes on to it, or to `until`.
    pub fn next(&mut self, until: Time) -> Option<Event> {
        let at = self.due.peek().map_or(Time::MAX, |Reverse(due)| due.at);
        if self.busy == 0 {
            self.idle += at.min(until) - self.now;
        }
        self.now = at.min(until);
        if at > until {
            return None;
        }
        let Reverse(due) = self.due.pop()?;
        self.busy -= usize::from(!due.event.is_timer());
        Some(due.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_they_were_asked_for() {
        let mut queue = Queue::default();
        for (after, node) in [(5, 1), (3, 2), (5, 3), (3, 4)] {
            queue.after(after, Event::Start { node });
        }
        let order: Vec<u64> = std::iter::from_fn(|| match queue.next(9)? {
            Event::Start { node } => Some(node),
            other => panic!("{other:?}"),
        })
        .collect();
        assert_eq!((order, queue.now()), (vec![2, 4, 1, 3], 9));
    }

    #[test]
    fn a_span_with_nothing_but_timers_is_idle() {
        let mut queue = Queue::default();
        queue.after(10, Event::Wake { client: 0 });
        queue.next(100);
        queue.after(20, Event::Start { node: 1 });
        queue.next(100);
        assert_eq!((queue.now(), queue.idle()), (30, 10));
    }
}
