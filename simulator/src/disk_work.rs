//! What a node's disk does for its process: write groups, and jobs off the turn.

use std::sync::Arc;

use lockstep::shard::Input as ShardInput;

use crate::node::Mail;
use crate::queue::{Event, MICROSECOND, Time};
use crate::replica::{Input, Job};
use crate::world::World;

impl World {
    /// How long the next write of a node takes.
    pub(crate) fn disk_latency(&mut self, id: u64) -> Time {
        let settings = &self.plan.disk;
        let (from, to) = (settings.sync_us_min * MICROSECOND, settings.sync_us_max * MICROSECOND);
        let mut latency = from + self.random.below(to - from + 1);
        if !self.faults_over && self.random.below(1_000_000) < settings.spike_ppm {
            self.stats.fault("disk-spike");
            latency *= 10 + self.random.below(90);
        }
        latency * self.nodes[&id].disk_slowness
    }

    /// A write group is carried out.
    pub(crate) fn write(&mut self, id: u64, life: u64, shard: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.life != life {
            return;
        }
        if node.disk_stalled {
            return node.stalled_groups.push(shard);
        }
        let disk = Arc::clone(&node.disk);
        let Some(process) = node.process.as_mut() else { return };
        let Some(group) = process.hosted.get_mut(&shard).and_then(|hosted| hosted.writing.take()) else {
            return;
        };
        let outcome = group.run();
        if disk.is_down() {
            return self.power_failed_at_io(id);
        }
        let (done, bytes) = (outcome.is_ok(), outcome.stats.frame_bytes);
        process.inbox.push_back(Mail::One(shard, Box::new(ShardInput::Synced(outcome).into())));
        self.note(id, "written", [shard, bytes, u64::from(done)], || {
            format!("shard {shard} {bytes} B{}", if done { "" } else { " FAILED" })
        });
        if done {
            let checked = self.invariants.group_done(id, shard, &disk);
            self.check(checked);
        } else {
            self.planted_struck(id);
        }
        self.wake_worker(id);
    }

    pub(crate) fn begin_job(&mut self, id: u64, shard: u64, job: Job) {
        let after = self.disk_latency(id);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let life = node.life;
        let Some(process) = node.process.as_mut() else { return };
        let number = process.next_job;
        process.next_job += 1;
        process.jobs.insert(number, (shard, job));
        self.stats.fault("off-turn-job");
        self.queue.after(after, Event::Job { node: id, life, job: number });
    }

    /// A read for a slow follower, an opening of a stopped log, or a step of repair is carried out.
    pub(crate) fn do_job(&mut self, id: u64, life: u64, number: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let disk = Arc::clone(&node.disk);
        let Some(process) = node.alive(life) else { return };
        let Some((shard, job)) = process.jobs.remove(&number) else { return };
        let done = job.run();
        if disk.is_down() {
            return self.power_failed_at_io(id);
        }
        process.inbox.push_back(Mail::One(shard, Box::new(Input::Done(done))));
        self.wake_worker(id);
    }
}
