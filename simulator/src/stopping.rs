//! How a process ends that is asked to: leadership handed over, every log sealed, and then nothing more. And the rolling
//! restart: the same for one node after the other, each once the one before is back.

use lockstep::shard::{Input, NOBODY};

use crate::node::{Hosted, Mail};
use crate::queue::{Event, MILLISECOND, SECOND, Time};
use crate::world::World;

/// How long a node waits for others to lead, as in production.
const HAND_OVER_MAX: Time = SECOND;
/// How often it looks.
const LOOK_EVERY: Time = 2 * MILLISECOND;
/// Between one node of a rolling restart that is back and the next that stops.
const BETWEEN_NODES: Time = 100 * MILLISECOND;

/// A process that has been asked to stop.
#[derive(Clone, Copy, Debug)]
pub struct Stopping {
    /// It waits for others to lead until then.
    until: Time,
    /// Its logs have been told to seal themselves.
    sealed: bool,
    /// How long it stays away.
    down: Time,
}

impl World {
    /// Asks a process to stop, and to be back after a while.
    pub(crate) fn stop(&mut self, id: u64, down: Time) -> bool {
        let until = self.queue.now() + HAND_OVER_MAX;
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let life = node.life;
        let Some(process) = node.process.as_mut().filter(|process| process.stopping.is_none()) else {
            return false;
        };
        process.stopping = Some(Stopping { until, sealed: false, down });
        let heirs: Vec<(u64, u64)> =
            process.hosted.iter().filter_map(|(shard, hosted)| Some((*shard, heir(id, hosted)?))).collect();
        for (shard, to) in heirs {
            self.mail(id, shard, Input::Transfer { token: NOBODY, to });
        }
        self.note(id, "stop", [life], || "asked to stop".to_owned());
        self.queue.after(LOOK_EVERY, Event::Stopping { node: id, life });
        true
    }

    /// A process that is to stop looks whether it may go on with that.
    pub(crate) fn go_on_stopping(&mut self, id: u64, life: u64) {
        let now = self.queue.now();
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.alive(life)) else { return };
        let Some(stopping) = process.stopping.as_mut() else { return };
        let leads = process.hosted.iter().any(|(_, hosted)| heir(id, hosted).is_some());
        if !stopping.sealed && (!leads || now >= stopping.until) {
            stopping.sealed = true;
            if !leads {
                self.stats.fault("stopped-without-leading");
            }
            for (shard, hosted) in &process.hosted {
                let seal = Mail::One(*shard, Box::new(Input::Seal.into()));
                if hosted.replica.log().is_some() {
                    process.inbox.push_back(seal);
                }
            }
            self.wake_worker(id);
        } else if stopping.sealed
            && process.inbox.is_empty()
            && process.hosted.values().all(|hosted| hosted.writing.is_none() && !hosted.touched)
        {
            let down = stopping.down;
            return self.end_process(id, down);
        }
        self.queue.after(LOOK_EVERY, Event::Stopping { node: id, life });
    }

    /// Begins to restart all nodes, one after the other.
    pub(crate) fn begin_rolling_restart(&mut self, down: Time) -> bool {
        if !self.rolling.is_empty() {
            return false;
        }
        let there = self.nodes.values().filter(|node| node.process.is_some() || node.starting);
        self.rolling = there.map(|node| (node.id, down)).collect();
        self.roll_on();
        true
    }

    /// A node is back; the next one of a rolling restart is about to stop.
    pub(crate) fn rolled(&mut self, id: u64) {
        if self.rolling.front().is_some_and(|(node, _)| *node == id) {
            self.rolling.pop_front();
            self.queue.after(BETWEEN_NODES, Event::RollOn);
        }
    }

    /// The next one stops. One that is away already is back by itself.
    pub(crate) fn roll_on(&mut self) {
        if let Some((node, down)) = self.rolling.front().copied() {
            self.stop(node, down);
        }
    }
}

/// Who shall lead a shard that a node leads, as in production: the voter that has come furthest of those that answer.
fn heir(id: u64, hosted: &Hosted) -> Option<u64> {
    if !hosted.replica.view().is_leader {
        return None;
    }
    let leader = hosted.replica.describe();
    let others = leader.replicas.iter().filter(|replica| {
        replica.node != id && replica.recent_active && leader.voters.contains(&replica.node)
    });
    others.max_by_key(|replica| (replica.matched_index, replica.node)).map(|best| best.node)
}
