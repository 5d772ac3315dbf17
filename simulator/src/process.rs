//! What happens on a node while its process runs: ticks, turns, and what comes out of them.

use std::collections::BTreeMap;

use lockstep::engine::METADATA_SHARD;
use lockstep::net::peer::{Letter, to_frames};
use lockstep::shard::{Event as ShardEvent, Health, Input as ShardInput, NOBODY};
use lockstep_storage::Log;
use lockstep_storage::io::Disk;

use crate::node::Mail;
use crate::queue::{Event, MICROSECOND, MILLISECOND, SECOND, Time};
use crate::replica::{Input, Output};
use crate::server;
use crate::world::{FREE_SPACE_RESERVE, World};

/// Inputs of one turn at the most, as in production.
const MAIL_AT_ONCE: usize = 1024;
/// How long a turn takes at least, and each input on top.
const TURN_COSTS: Time = 3 * MICROSECOND;
const INPUT_COSTS: Time = MICROSECOND;

impl World {
    pub(crate) fn tick(&mut self, id: u64, life: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.life != life {
            return;
        }
        let (next, paused) = (node.own(self.plan.cluster.tick_ms * MILLISECOND), node.paused);
        let Some(process) = node.process.as_mut() else { return };
        // A process that stands still misses its ticks, but for one.
        if !paused || !process.inbox.iter().any(|mail| matches!(mail, Mail::Tick)) {
            process.inbox.push_back(Mail::Tick);
        }
        self.queue.after(next, Event::Tick { node: id, life });
        self.wake_worker(id);
    }

    pub(crate) fn look_at_free_space(&mut self, id: u64, life: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let read_errors = std::mem::replace(&mut node.read_errors, node.disk.counters().read_errors);
        (read_errors..node.read_errors).for_each(|_| self.stats.fault("read-error"));
        let full = node.disk.free_bytes().is_ok_and(|free| free < FREE_SPACE_RESERVE);
        let Some(process) = node.alive(life) else { return };
        if process.disk_full != full {
            process.disk_full = full;
            process.inbox.push_back(Mail::DiskFull(full));
            if full {
                self.stats.fault("full-disk");
            }
            self.note(id, "free-space", [u64::from(full)], || {
                if full { "too little" } else { "enough" }.to_owned()
            });
            self.wake_worker(id);
        }
        self.queue.after(SECOND / 10, Event::FreeSpace { node: id, life });
    }

    /// The worker takes what came in and lets every shard it concerns take its turn.
    pub(crate) fn turn(&mut self, id: u64, life: u64) {
        let now = self.queue.now();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (now_ms, paused) = (node.now_ms(now), node.paused);
        let Some(process) = node.alive(life) else { return };
        process.turn_due = false;
        if paused {
            return;
        }
        let count = process.inbox.len().min(MAIL_AT_ONCE);
        let mail: Vec<Mail> = process.inbox.drain(..count).collect();
        process.busy_until = now + TURN_COSTS + INPUT_COSTS * count as Time;
        for letter in mail {
            self.deliver(id, letter);
        }
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.alive(life)) else { return };
        let touched: Vec<u64> =
            process.hosted.iter().filter(|(_, hosted)| hosted.touched).map(|(shard, _)| *shard).collect();
        let mut to_peers = BTreeMap::new();
        for shard in touched {
            self.shard_turn(id, shard, now_ms, &mut to_peers);
            if self.violation.is_some() {
                return;
            }
        }
        for (to, messages) in to_peers {
            let behind = messages.iter().any(|letter| matches!(letter, Letter::Repair { .. }));
            for frame in to_frames(messages) {
                let bytes = frame.to_bytes();
                let sum = u64::from(u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
                self.note(id, "send", [to, bytes.len() as u64, sum], || {
                    format!("{} B to node {to}", bytes.len())
                });
                self.network.send((id, to), bytes, behind, &mut self.queue, &mut self.stats);
            }
        }
        if self.nodes[&id].process.as_ref().is_some_and(|process| !process.inbox.is_empty()) {
            self.wake_worker(id);
        }
    }

    fn deliver(&mut self, id: u64, letter: Mail) {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) else { return };
        let shards: Vec<u64> = process.hosted.keys().copied().collect();
        match letter {
            Mail::One(shard, input) => self.step(id, shard, *input),
            Mail::Tick => shards.into_iter().for_each(|shard| self.step(id, shard, ShardInput::Tick.into())),
            Mail::PeerLost(node) => {
                shards
                    .into_iter()
                    .for_each(|shard| self.step(id, shard, ShardInput::PeerLost { node }.into()));
            }
            Mail::PeerFound(node) => {
                shards
                    .into_iter()
                    .for_each(|shard| self.step(id, shard, ShardInput::PeerFound { node }.into()));
            }
            Mail::DiskFull(full) => {
                shards.into_iter().for_each(|shard| self.step(id, shard, ShardInput::DiskFull(full).into()));
            }
        }
    }

    fn step(&mut self, id: u64, shard: u64, input: Input) {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) else { return };
        let Some(hosted) = process.hosted.get_mut(&shard) else { return };
        hosted.touched = true;
        let was_sync = matches!(input, Input::Shard(ShardInput::Synced(_)));
        let stepped = hosted.replica.step(input, &mut hosted.outputs);
        if was_sync {
            self.invariants.synced(id, shard, &hosted.replica);
        }
        self.survived(id, shard, stepped);
    }

    fn shard_turn(&mut self, id: u64, shard: u64, now_ms: i64, to_peers: &mut BTreeMap<u64, Vec<Letter>>) {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) else { return };
        let Some(hosted) = process.hosted.get_mut(&shard) else { return };
        hosted.touched = false;
        let commit = hosted.replica.log().map_or(0, Log::commit);
        let led = hosted.replica.view().is_leader;
        let turned = hosted.replica.turn(now_ms, &mut hosted.outputs);
        let outputs = std::mem::take(&mut hosted.outputs);
        let looked = self.invariants.look(id, shard, &hosted.replica);
        if self.survived(id, shard, turned).is_none() {
            return;
        }
        self.check(looked);
        self.check_commit(id, shard, commit);
        self.note_membership(id, shard, led);
        let mut view_changed = false;
        for output in outputs {
            view_changed |= matches!(output, Output::View(_));
            self.carry_out(id, shard, output, to_peers);
        }
        if view_changed {
            self.wake_readers(id, shard);
        }
    }

    fn check_commit(&mut self, id: u64, shard: u64, before: u64) {
        let Some(hosted) = self.nodes[&id].process.as_ref().and_then(|process| process.hosted.get(&shard))
        else {
            return;
        };
        if !hosted.replica.view().is_leader || hosted.replica.log().is_none_or(|log| log.commit() == before) {
            return;
        }
        let term_of = |node: u64, index: u64| {
            let node = self.nodes.get(&node)?;
            let running = node.process.as_ref().and_then(|process| process.hosted.get(&shard));
            let hosted = running.or_else(|| node.corpse.get(&shard))?;
            hosted.replica.log()?.term(index)
        };
        let checked = self.invariants.commit_is_durable(shard, &hosted.replica, &hosted.membership, term_of);
        self.check(checked);
    }

    fn note_membership(&mut self, id: u64, shard: u64, led: bool) {
        let process = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut());
        let Some(hosted) = process.and_then(|process| process.hosted.get_mut(&shard)) else { return };
        let Some((index, members)) = hosted.replica.membership() else { return };
        if hosted.replica.view().is_leader {
            let checked = self.invariants.leads_members(id, shard, members);
            if checked.is_err() {
                return self.check(checked);
            }
        }
        if *members == hosted.membership {
            return;
        }
        let now = members.clone();
        let before = std::mem::replace(&mut hosted.membership, now.clone());
        self.stats.fault("membership-applied");
        if led && before.votes(id) && !now.votes(id) {
            self.stats.fault("leader-removed");
        }
        self.note(id, "members", [shard, index], || format!("shard {shard} from entry {index} on: {now:?}"));
    }

    fn carry_out(&mut self, id: u64, shard: u64, output: Output, to_peers: &mut BTreeMap<u64, Vec<Letter>>) {
        match output {
            Output::Send(message) => {
                let checked = self.invariants.sends(shard, &message, self.is_marked(id, shard));
                self.check(checked);
                to_peers.entry(message.to).or_default().push(Letter::Raft { shard, messages: vec![message] });
            }
            Output::Write(group) => {
                let after = self.disk_latency(id);
                let Some(node) = self.nodes.get_mut(&id) else { return };
                let life = node.life;
                let Some(hosted) = node.process.as_mut().and_then(|process| process.hosted.get_mut(&shard))
                else {
                    return;
                };
                hosted.writing = Some(group);
                self.queue.after(after, Event::Disk { node: id, life, shard });
            }
            Output::Repair { to, number, message } => {
                to_peers.entry(to).or_default().push(Letter::Repair { shard, number, message });
            }
            Output::Job(job) => self.begin_job(id, shard, job),
            Output::Reader(reader) => {
                let process = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut());
                if let Some(hosted) = process.and_then(|process| process.hosted.get_mut(&shard)) {
                    hosted.reader = Some(reader);
                    hosted.begin_scrub();
                }
            }
            Output::Recovered(_) => self.check_opened(id, shard),
            // Reported as a panic where it came out.
            Output::Forget => {}
            Output::Answer(NOBODY, _) => {}
            Output::Answer(token, answer) => self.answer(id, shard, token, answer),
            Output::View(view) => {
                let numbers = [shard, view.high_watermark, view.term, u64::from(view.is_leader)];
                self.note(id, "view", numbers, || {
                    let role = if view.is_leader { " leads" } else { "" };
                    format!("shard {shard} to LSN {} in term {}{role}", view.high_watermark, view.term)
                });
                self.health_changed(id, shard, &view.health);
            }
            Output::Event(event) => self.shard_event(id, shard, &event),
        }
    }

    fn answer(
        &mut self,
        id: u64,
        shard: u64,
        token: u64,
        answer: Result<lockstep::shard::Answer, lockstep::shard::AppendError>,
    ) {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) else { return };
        if let (Ok(lockstep::shard::Answer::Appended(appended)), Some(hosted)) =
            (&answer, process.hosted.get(&shard))
        {
            let epoch = process.asked.get(&token).and_then(server::Asked::fence);
            let checked = self.invariants.acknowledged(id, shard, appended.last_lsn, &hosted.replica);
            let checked =
                checked.and_then(|()| self.invariants.derived.acknowledged(shard, appended.first_lsn, epoch));
            let last_lsn = appended.last_lsn;
            self.trace.note(self.queue.now(), Some(id), "acknowledge", [shard, last_lsn], || {
                format!("shard {shard} LSN {last_lsn}")
            });
            if let Err(violation) = checked {
                return self.check(Err(violation));
            }
        }
        let refused = match (&answer, process.hosted.get(&shard)) {
            (Err(error), Some(hosted)) => self.invariants.derived.refused(id, shard, error, &hosted.replica),
            _ => Ok(()),
        };
        if let Err(violation) = refused {
            return self.check(Err(violation));
        }
        if shard == METADATA_SHARD {
            return self.metadata_answers(id, token, answer);
        }
        let Some(asked) = process.asked.remove(&token) else { return };
        let bytes = server::answer(process, &asked, answer);
        self.network.send_response(asked.connection, bytes, &mut self.queue, &mut self.stats);
    }

    /// Tells readers what there is for them now.
    pub(crate) fn wake_readers(&mut self, id: u64, shard: u64) {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) else { return };
        for (connection, bytes) in server::wake(process, shard) {
            self.network.send_response(connection, bytes, &mut self.queue, &mut self.stats);
        }
        self.tell_of_damage_read(id);
    }

    fn health_changed(&mut self, id: u64, shard: u64, health: &Health) {
        match health {
            Health::Ok | Health::Full => {}
            // It is opened again by itself, after a pause.
            Health::Failed(why) if self.nodes[&id].excused() || self.is_damaged(id, shard) => {
                self.note(id, "failed", [shard], || format!("shard {shard}: {why}"));
            }
            // It is repaired by itself.
            Health::Faulty(why) if self.invariants.is_faulty(id, shard) || self.is_damaged(id, shard) => {
                if self.invariants.faulty(id, shard) {
                    self.stats.fault("repair-begun");
                }
                self.note(id, "faulty", [shard], || format!("shard {shard}: {why}"));
            }
            Health::Failed(why) | Health::Faulty(why) => {
                self.violate(
                    "replica-works",
                    format!("shard {shard} stopped on node {id} for no reason: {why}"),
                );
            }
        }
    }

    fn shard_event(&mut self, id: u64, shard: u64, event: &ShardEvent) {
        let numbers = match event {
            ShardEvent::BecameLeader { term } => {
                self.stats.elections += 1;
                let checked = self.invariants.leads(id, shard, *term);
                self.check(checked);
                [shard, 1, *term]
            }
            ShardEvent::LostLeadership { term } => [shard, 2, *term],
            ShardEvent::RolledBack { from_index, .. } => {
                self.stats.truncations += 1;
                self.rolled_back(id, shard);
                [shard, 3, *from_index]
            }
            ShardEvent::SnapshotInstalled { index } => {
                self.stats.snapshots += 1;
                self.rolled_back(id, shard);
                [shard, 4, *index]
            }
            ShardEvent::DamagedMessage { index, .. } => {
                self.stats.fault("damage-refused-by-entry");
                [shard, 5, *index]
            }
            ShardEvent::MembershipRefused { index, .. } => [shard, 6, *index],
        };
        self.note(id, "event", numbers, || format!("shard {shard} {event:?}"));
    }

    fn rolled_back(&mut self, id: u64, shard: u64) {
        let process = self.nodes[&id].process.as_ref();
        if let Some(hosted) = process.and_then(|process| process.hosted.get(&shard)) {
            self.invariants.rolled_back(id, shard, &hosted.replica);
        }
    }
}
