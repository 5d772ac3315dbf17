//! The scrub in simulated time, and what readers find: in production tasks of the engine and the broker do this.

use std::sync::Arc;

use lockstep_storage::{ReadError, Scrubbed};

use crate::node::{Hosted, Mail};
use crate::queue::{Event, MILLISECOND, Time};
use crate::replica::Input;
use crate::world::World;

/// Bytes verified at a time.
const CHUNK_BYTES: u64 = 64 << 10;
/// The pause once the faults have stopped: what is left of them is to be found soon.
const LAST_PAUSE_MS: u64 = 20;

impl World {
    /// Verifies the next bytes of each of a node's logs.
    pub(crate) fn scrub(&mut self, id: u64, life: u64) {
        let pause = self.scrub_pause();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (stands_still, disk) = (node.paused || node.disk_stalled, Arc::clone(&node.disk));
        let Some(process) = node.alive(life) else { return };
        let mut found = 0;
        for (shard, hosted) in process.hosted.iter_mut().filter(|_| !stands_still) {
            let Some(reader) = &hosted.reader else { continue };
            match reader.scrub(hosted.scrubbed, CHUNK_BYTES) {
                Ok(Scrubbed { next, .. }) => {
                    hosted.scrubs += u64::from(next.is_none());
                    hosted.scrubbed = next.unwrap_or_default();
                }
                Err(ReadError::Damaged(damage)) => {
                    found += 1;
                    hosted.scrubbed = Default::default();
                    process.inbox.push_back(Mail::One(*shard, Box::new(Input::Damaged(damage.to_string()))));
                }
                // Dropped by retention meanwhile, or the disk does not answer: the next round looks again.
                Err(_) => hosted.scrubbed = Default::default(),
            }
        }
        if disk.is_down() {
            return self.power_failed_at_io(id);
        }
        self.queue.after(pause, Event::Scrub { node: id, life });
        if found > 0 {
            self.stats.fault("damage-found-by-scrub");
            self.wake_worker(id);
        }
    }

    /// How long until the next bytes of a node's logs are verified.
    pub(crate) fn scrub_pause(&self) -> Time {
        let pause_ms = if self.faults_over { LAST_PAUSE_MS } else { self.plan.disk.scrub_pause_ms };
        pause_ms * MILLISECOND
    }

    /// Every log is to be verified from its beginning to its end.
    pub(crate) fn begin_scrubs(&mut self) {
        let processes = self.nodes.values_mut().filter_map(|node| node.process.as_mut());
        processes.flat_map(|process| process.hosted.values_mut()).for_each(Hosted::begin_scrub);
    }

    /// A log that is open and has not been verified from its beginning to its end.
    pub(crate) fn unscrubbed(&self) -> Option<String> {
        let processes = self.nodes.values().filter_map(|node| node.process.as_ref());
        let mut hosted = processes
            .flat_map(|process| process.hosted.iter().map(|(shard, hosted)| (process.node, *shard, hosted)));
        let open = hosted.find(|(_, _, hosted)| hosted.replica.log().is_none() || hosted.scrubs == 0);
        open.map(|(node, shard, _)| format!("shard {shard} on node {node} was not verified whole"))
    }

    /// What readers came by is told to the replicas.
    pub(crate) fn tell_of_damage_read(&mut self, id: u64) {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) else { return };
        if std::mem::take(&mut process.damage_read) > 0 {
            self.stats.fault("damage-found-by-read");
            self.wake_worker(id);
        }
    }
}
