//! The parts of a plan, carried out: how each fault begins and ends.

use std::io;

use lockstep::shard::{Command, Input, NOBODY};
use lockstep_storage::io::fake::Fault;

use crate::damage::Means;
use crate::kinds::FaultKind;
use crate::network::CLIENTS;
use crate::node::{Mail, Unread};
use crate::plan::Part;
use crate::queue::{Event, MICROSECOND, MILLISECOND, Time};
use crate::server::shard_of;
use crate::world::World;

impl World {
    /// A part of the plan begins.
    pub(crate) fn begin_part(&mut self, part: usize) {
        if self.faults_over {
            return;
        }
        let Part { for_ms, kind, target, .. } = self.plan.parts[part];
        let node = self.resolve(target);
        let lasting = for_ms * MILLISECOND;
        self.note(node, "fault", [part as u64, for_ms], || format!("{} for {for_ms} ms", kind.name()));
        if self.begin_fault(kind, node, lasting, target) {
            self.stats.fault(kind.name());
        }
        self.active.insert(part, node);
        self.queue.after(lasting, Event::FaultEnds { part });
    }

    /// Returns whether it has taken effect already.
    fn begin_fault(
        &mut self,
        kind: FaultKind,
        node: u64,
        lasting: Time,
        target: crate::kinds::Target,
    ) -> bool {
        match kind {
            FaultKind::Kill => self.kill(node, lasting),
            FaultKind::PowerCut => self.cut_power(node, lasting),
            FaultKind::PowerCutAll => {
                let nodes: Vec<u64> = self.nodes.keys().copied().collect();
                nodes.into_iter().filter(|node| self.cut_power(*node, lasting)).count() > 0
            }
            FaultKind::PowerCutAtIo { after } => self.plant(node, after, Fault::PowerCut, kind),
            FaultKind::DiskError { after } => {
                self.plant(node, after, Fault::Error(io::ErrorKind::Other), kind)
            }
            FaultKind::LostSync { after } => {
                self.plant(node, after, Fault::LostSync(io::ErrorKind::StorageFull), kind)
            }
            FaultKind::DroppedPages { after } => {
                self.plant(node, after, Fault::DroppedPages(io::ErrorKind::Other), kind)
            }
            FaultKind::ShortWrite { after } => {
                self.plant(node, after, Fault::ShortWrite(io::ErrorKind::Other), kind)
            }
            FaultKind::BitRot { pick } => self.damage(node, pick, Means::FlippedBits),
            FaultKind::ZeroedBlock { pick } => self.damage(node, pick, Means::Zeros),
            FaultKind::MisdirectedWrite { pick } => self.misdirect(node, pick),
            FaultKind::UnreadableBlock { pick } => self.damage(node, pick, Means::Unreadable),
            FaultKind::LostName { pick } => self.lose_name(node, pick, lasting),
            FaultKind::LostDirectory { pick } => self.lose_directory(node, pick, lasting),
            FaultKind::ReadError { after } => {
                let Some(node) = self.nodes.get_mut(&node).filter(|node| node.process.is_some()) else {
                    return false;
                };
                // A second one in a row would be no accident: what cannot be read twice counts as damaged.
                if matches!(node.planted, Some(FaultKind::ReadError { .. })) {
                    return false;
                }
                let read = node.disk.counters().reads + after;
                node.disk.plant_read(read, io::ErrorKind::Other);
                node.planted = Some(kind);
                false
            }
            FaultKind::VanishedDisk => {
                let Some(node) = self.nodes.get_mut(&node).filter(|node| node.process.is_some()) else {
                    return false;
                };
                node.disk.vanish();
                node.planted = Some(kind);
                true
            }
            FaultKind::FullDisk { left } => {
                let Some(node) = self.nodes.get_mut(&node) else { return false };
                node.disk.set_capacity(node.disk.used_bytes() + left);
                node.disk_limited = true;
                false
            }
            FaultKind::Pause => self.pause(node),
            FaultKind::ClockJump { by_ms } => {
                let Some(node) = self.nodes.get_mut(&node) else { return false };
                node.clock_offset_ms = node.clock_offset_ms.saturating_add(by_ms);
                true
            }
            FaultKind::Isolate
            | FaultKind::CutOff
            | FaultKind::Deaf
            | FaultKind::Mute
            | FaultKind::PartialPartition => {
                for (from, to) in self.ways(kind, node) {
                    self.network.cut(from, to);
                }
                true
            }
            FaultKind::Clog => {
                self.others(node).into_iter().for_each(|other| self.network.clog(other, node));
                true
            }
            FaultKind::Disconnect => {
                for other in self.others(node) {
                    self.disconnect(node, other);
                    self.disconnect(other, node);
                }
                self.close_clients(node, true);
                true
            }
            FaultKind::SlowDisk => self.nodes.get_mut(&node).map(|node| node.disk_slowness = 50).is_some(),
            FaultKind::StalledDisk => {
                self.nodes.get_mut(&node).map(|node| node.disk_stalled = true).is_some()
            }
            FaultKind::Transfer => self.transfer(target),
            FaultKind::Fence => self.fence(target),
            FaultKind::Trim { keep } => self.trim(target, keep),
            FaultKind::Move { size } => self.move_replicas(target, size),
            FaultKind::Retention { bytes, ms } => self.change_retention(target, bytes, ms),
            FaultKind::CleanStop => self.stop(node, lasting),
            FaultKind::RollingRestart => self.begin_rolling_restart(lasting),
            FaultKind::Join
            | FaultKind::LoseBroker
            | FaultKind::Decommission
            | FaultKind::DrainAWhile
            | FaultKind::MoveTo
            | FaultKind::CancelMoves
            | FaultKind::Rebalance
            | FaultKind::MetadataLeaderCrash => self.begin_broker_fault(kind, node, target),
        }
    }

    /// A part of the plan ends.
    pub(crate) fn end_part(&mut self, part: usize) {
        let Some(node) = self.active.remove(&part) else { return };
        let kind = self.plan.parts[part].kind;
        match kind {
            FaultKind::Pause => self.resume(node),
            FaultKind::Isolate
            | FaultKind::CutOff
            | FaultKind::Deaf
            | FaultKind::Mute
            | FaultKind::PartialPartition => {
                for (from, to) in self.ways(kind, node) {
                    self.network.mend(from, to, &mut self.queue, &mut self.stats);
                }
            }
            FaultKind::Clog => {
                let others = self.others(node);
                others.into_iter().for_each(|other| self.network.unclog(other, node, &mut self.queue));
            }
            FaultKind::SlowDisk => {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.disk_slowness = 1;
                }
            }
            FaultKind::StalledDisk => self.unstall(node),
            FaultKind::DrainAWhile => self.end_broker_drain(node),
            FaultKind::VanishedDisk if self.nodes[&node].disk.has_vanished() => {
                self.cut_power(node, MILLISECOND);
            }
            FaultKind::FullDisk { .. } => {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.disk.set_capacity(u64::MAX);
                    node.disk_limited = false;
                }
            }
            _ => return,
        }
        self.note(node, "fault-over", [part as u64], || kind.name().to_owned());
    }

    /// Everything that goes on ends, and nothing else begins.
    pub(crate) fn end_faults(&mut self) {
        self.faults_over = true;
        self.rolling.clear();
        for part in self.active.keys().copied().collect::<Vec<_>>() {
            self.end_part(part);
        }
        self.network.calm();
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.disk.forgive();
            }
            if self.nodes[&id].process.is_none() {
                self.start_later(id, MILLISECOND);
            }
        }
    }

    fn others(&self, node: u64) -> Vec<u64> {
        self.nodes.keys().copied().filter(|other| *other != node).collect()
    }

    /// The directions that a partition cuts.
    fn ways(&self, kind: FaultKind, node: u64) -> Vec<(u64, u64)> {
        let to_node = |others: Vec<u64>| others.into_iter().map(move |other| (other, node));
        let from_node = |others: Vec<u64>| others.into_iter().map(move |other| (node, other));
        let others = self.others(node);
        let clients = [(CLIENTS, node), (node, CLIENTS)];
        match kind {
            FaultKind::Isolate => to_node(others.clone()).chain(from_node(others)).chain(clients).collect(),
            FaultKind::CutOff => to_node(others.clone()).chain(from_node(others)).collect(),
            FaultKind::Deaf => to_node(others).collect(),
            FaultKind::Mute => from_node(others).collect(),
            _ => {
                let next = node % self.plan.nodes + 1;
                vec![(node, next), (next, node)]
            }
        }
    }

    /// The process dies. What it had handed to the kernel stays.
    pub(crate) fn kill(&mut self, id: u64, down: Time) -> bool {
        if self.nodes[&id].process.is_none() {
            return false;
        }
        self.finish_some_writes(id);
        self.stats.kills += 1;
        self.end_process(id, down);
        true
    }

    /// The process is gone, and its machine tells whoever is connected.
    pub(crate) fn end_process(&mut self, id: u64, down: Time) {
        self.nodes[&id].disk.kill_process();
        self.bury(id, true);
        for other in self.others(id) {
            self.disconnect(id, other);
        }
        self.start_later(id, down.max(MILLISECOND));
    }

    /// The power goes.
    pub(crate) fn cut_power(&mut self, id: u64, down: Time) -> bool {
        if self.nodes[&id].process.is_none() {
            return false;
        }
        self.finish_some_writes(id);
        self.power_is_gone(id, down);
        true
    }

    /// The power went in the middle of an operation.
    pub(crate) fn power_failed_at_io(&mut self, id: u64) {
        self.planted_struck(id);
        let down = 20 * MILLISECOND + self.random.below(500 * MILLISECOND);
        self.power_is_gone(id, down);
    }

    fn power_is_gone(&mut self, id: u64, down: Time) {
        self.stats.power_cuts += 1;
        let seed = self.random.next_u64();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.disk.power_cut();
        node.disk.restart(seed);
        node.powered = false;
        self.bury(id, false);
        for other in self.others(id) {
            self.network.disconnect(id, other);
        }
        self.start_later(id, down.max(MILLISECOND));
    }

    /// What a process leaves when it is gone.
    pub(crate) fn bury(&mut self, id: u64, connections_close: bool) {
        let now = self.queue.now();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let life = node.life;
        node.paused = false;
        node.planted = None;
        node.stalled_groups.clear();
        if let Some(process) = node.process.take() {
            node.corpse = process.hosted;
        }
        self.ledger.restart(id, now);
        self.close_clients(id, connections_close);
        self.note(id, "down", [life, u64::from(connections_close)], || {
            if connections_close { "killed" } else { "power lost" }.to_owned()
        });
    }

    /// Of the groups on their way to the disk, some are carried out in full, one in part, and nobody hears of it.
    fn finish_some_writes(&mut self, id: u64) {
        let random = &mut self.random;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.disk_stalled {
            return;
        }
        let disk = std::sync::Arc::clone(&node.disk);
        let Some(process) = node.process.as_mut() else { return };
        let stop_after = random.below(8);
        disk.plant(disk.counters().operations + 1 + stop_after, Fault::PowerCut);
        let mut groups: Vec<_> =
            process.hosted.values_mut().filter_map(|hosted| hosted.writing.take()).collect();
        if random.below(2) == 0 {
            groups.reverse();
        }
        for group in groups {
            let _ = group.run();
        }
    }

    fn plant(&mut self, id: u64, after: u64, fault: Fault, kind: FaultKind) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        if node.process.is_some() {
            node.disk.plant(node.disk.counters().operations + after, fault);
            node.planted = Some(kind);
        }
        false
    }

    /// A planted fault has struck.
    pub(crate) fn planted_struck(&mut self, id: u64) {
        let planted = self.nodes.get_mut(&id).and_then(|node| node.planted);
        if let Some(kind) = planted {
            self.stats.fault(kind.name());
        }
    }

    fn pause(&mut self, id: u64) -> bool {
        self.nodes.get_mut(&id).filter(|node| node.process.is_some()).map(|node| node.paused = true).is_some()
    }

    fn resume(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.paused = false;
        let Some(process) = node.process.as_mut() else { return };
        process.turn_due = false;
        for Unread { connection, frame } in std::mem::take(&mut process.unread) {
            self.queue.after(MICROSECOND, Event::Request { connection, frame });
        }
        self.wake_worker(id);
    }

    fn unstall(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.disk_stalled = false;
        let life = node.life;
        for shard in std::mem::take(&mut node.stalled_groups) {
            self.queue.after(MICROSECOND, Event::Disk { node: id, life, shard });
        }
    }

    fn transfer(&mut self, target: crate::kinds::Target) -> bool {
        let partition = self.partition_of(target);
        let shard = shard_of(partition);
        let Some(leader) = self.leader(shard) else { return false };
        let others = self.others(leader);
        let to = others[self.random.below(others.len() as u64) as usize];
        self.mail(leader, shard, Input::Transfer { token: NOBODY, to });
        true
    }

    fn trim(&mut self, target: crate::kinds::Target, keep: u64) -> bool {
        let partition = self.partition_of(target);
        let shard = shard_of(partition);
        let log_start = self.invariants.committed_lsn(shard).saturating_sub(keep) + 1;
        let Some(leader) = self.leader(shard).filter(|_| log_start > 1) else { return false };
        self.ledger.trim(partition, self.queue.now(), log_start);
        self.mail(leader, shard, Input::Command { token: NOBODY, command: Command::Trim { log_start } });
        true
    }

    fn fence(&mut self, target: crate::kinds::Target) -> bool {
        let shard = shard_of(self.partition_of(target));
        let Some(leader) = self.leader(shard) else { return false };
        let hosted = self.nodes[&leader].process.as_ref().and_then(|process| process.hosted.get(&shard));
        let epoch = hosted.map_or(0, |hosted| hosted.replica.view().fence) + 1;
        self.mail(leader, shard, Input::Command { token: NOBODY, command: Command::Fence { epoch } });
        true
    }

    pub(crate) fn partition_of(&self, target: crate::kinds::Target) -> u32 {
        match target {
            crate::kinds::Target::Leader(partition) => partition,
            crate::kinds::Target::Node(node) => (node % u64::from(self.plan.shards)) as u32,
        }
    }

    pub(crate) fn mail(&mut self, id: u64, shard: u64, input: Input) {
        if let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) {
            process.inbox.push_back(Mail::One(shard, Box::new(input.into())));
            self.wake_worker(id);
        }
    }
}
