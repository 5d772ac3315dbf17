//! How a process begins on a machine: every shard is recovered, and the first timers are set.

use std::sync::Arc;

use lockstep::engine::METADATA_SHARD;
use lockstep::shard::OpenError;
use lockstep_storage::io::{Disk, FakeDisk};
use lockstep_storage::{Cache, RecoveryError, ScrubCursor, SegmentPool};

use crate::node::{Hosted, Process};
use crate::queue::{Event, MILLISECOND, Time};
use crate::replica::Replica;
use crate::server::shard_of;
use crate::world::{World, directory};

impl World {
    /// Starts a node's process: every shard is recovered.
    pub(crate) fn start(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.starting = false;
        if node.process.is_some() || self.plan.brokers && !node.is_in_service() {
            return;
        }
        node.powered = true;
        node.life += 1;
        node.corpse.clear();
        let (life, disk) = (node.life, Arc::clone(&node.disk));
        self.ledger.restart(id, self.queue.now());
        self.note(id, "start", [life], || format!("life {life}"));
        let pool = match self.plan.cluster.pool_files {
            0 => None,
            files => SegmentPool::open(Arc::<FakeDisk>::clone(&disk), files, 0).ok().map(Arc::new),
        };
        let mut process = Process::new(id, pool, Cache::new(self.plan.cluster.cache_bytes));
        for partition in 0..self.plan.shards {
            let shard = shard_of(partition);
            if self.plan.brokers || !self.is_here(id, shard) {
                continue;
            }
            let peers = self.peers(id, shard);
            match self.open(id, shard, peers, &mut process) {
                Some(Ok(hosted)) => drop(process.hosted.insert(shard, hosted)),
                Some(Err(error)) => return self.refused(id, shard, &error),
                None => return,
            }
        }
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let first_tick = node.own(self.plan.cluster.tick_ms * MILLISECOND);
        node.process = Some(process);
        self.queue.after(first_tick, Event::Tick { node: id, life });
        self.queue.after(MILLISECOND, Event::FreeSpace { node: id, life });
        self.queue.after(self.scrub_pause(), Event::Scrub { node: id, life });
        for partition in 0..self.plan.shards {
            let shard = shard_of(partition);
            self.invariants.process_begins(id, shard);
            self.check_opened(id, shard);
        }
        if self.plan.brokers {
            self.invariants.process_begins(id, METADATA_SHARD);
            self.start_broker(id);
        }
        self.wake_worker(id);
        self.rolled(id);
    }

    fn open(
        &mut self,
        id: u64,
        shard: u64,
        peers: Vec<u64>,
        process: &mut Process,
    ) -> Option<Result<Hosted, OpenError>> {
        let mut options = self.shard_options(id, shard);
        (options.log.pool, options.log.cache) = (process.pool.clone(), Arc::clone(&process.cache));
        let disk: Arc<dyn Disk> = Arc::<FakeDisk>::clone(&self.nodes[&id].disk);
        let random = self.random.split();
        let mut outputs = Vec::new();
        let opened = Replica::open(disk, options, peers, random, &mut outputs);
        let opened = self.survived(id, shard, opened)?;
        Some(opened.map(|replica| {
            let membership = replica.membership().map(|(_, members)| members.clone()).unwrap_or_default();
            let (writing, reader, scrubbed) = (None, None, ScrubCursor::default());
            Hosted { replica, writing, membership, reader, scrubbed, scrubs: 0, outputs, touched: true }
        }))
    }

    /// Whether a node has a shard's files, and has not begun to delete them. What a creation that was cut short has left
    /// counts if it is whole.
    fn is_here(&mut self, id: u64, shard: u64) -> bool {
        let placement = &self.placements[&shard];
        if placement.dropping.contains(&id) {
            return false;
        }
        let disk = &self.nodes[&id].disk;
        let here = placement.holders.contains(&id) || disk.exists(&directory(shard)).unwrap_or(false);
        if here && !placement.holders.contains(&id) {
            self.holds(id, shard);
        }
        here
    }

    /// A running process hosts one more shard, whose files have just been created.
    pub(crate) fn host(&mut self, id: u64, shard: u64, peers: Vec<u64>) {
        let Some(mut process) = self.nodes.get_mut(&id).and_then(|node| node.process.take()) else { return };
        let opened = self.open(id, shard, peers, &mut process);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.process = Some(process);
        }
        match opened {
            None => {}
            Some(Ok(hosted)) => {
                if let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) {
                    process.hosted.insert(shard, hosted);
                }
                self.check_opened(id, shard);
                self.wake_worker(id);
            }
            Some(Err(error)) => {
                self.note(id, "refused", [shard], || format!("shard {shard}: {error}"));
                if self.plan.brokers {
                    return self.disk_failed(id, &format!("shard {shard} is not opened: {error}"));
                }
                self.kill(id, 100 * MILLISECOND);
            }
        }
    }

    pub(crate) fn check_opened(&mut self, id: u64, shard: u64) {
        let node = &self.nodes[&id];
        let Some(hosted) = node.process.as_ref().and_then(|process| process.hosted.get(&shard)) else {
            return;
        };
        let Some(log) = hosted.replica.log() else { return };
        let (last, chain) = (log.last_index(), log.last_chain());
        if self.invariants.is_faulty(id, shard) {
            self.stats.fault("repair-done");
        }
        let checked = self.invariants.opened(id, shard, &hosted.replica, &node.disk);
        self.note(id, "recovered", [shard, last, chain], || format!("shard {shard} through entry {last}"));
        self.check(checked);
        self.has_all_segments(id, shard);
    }

    /// A shard could not be opened: the disk stopped meanwhile, or failed for once, or the log is gone.
    fn refused(&mut self, id: u64, shard: u64, error: &OpenError) {
        let node = &self.nodes[&id];
        if node.disk.is_down() {
            return self.power_failed_at_io(id);
        }
        self.note(id, "refused", [shard], || format!("shard {shard}: {error}"));
        match error {
            OpenError::Recovery(RecoveryError::Io { .. })
            | OpenError::Create(_)
            | OpenError::Content { .. }
                if self.nodes[&id].excused() =>
            {
                self.planted_struck(id);
                self.nodes[&id].disk.kill_process();
                self.start_later(id, 100 * MILLISECOND);
            }
            _ => {
                self.violate("recovery-succeeds", format!("node {id} cannot recover shard {shard}: {error}"));
            }
        }
    }

    /// Switches a node on again after a while.
    pub(crate) fn start_later(&mut self, id: u64, after: Time) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if !node.starting {
            node.starting = true;
            self.queue.after(after, Event::Start { node: id });
        }
    }
}
