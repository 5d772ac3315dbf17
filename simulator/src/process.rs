//! What happens on a node while its process runs: ticks, turns, writes, reads, messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use lockstep::net::peer::{Letter, to_frames};
use lockstep::shard::{Event as ShardEvent, Health, Input as ShardInput, NOBODY, OpenError};
use lockstep_protocol::peer::{PeerDecoder, PeerMessage, RaftMessage};
use lockstep_storage::io::{Disk, FakeDisk};
use lockstep_storage::{Log, RecoveryError, ScrubCursor, SegmentPool};

use crate::node::{Hosted, Mail, Process};
use crate::queue::{Event, MICROSECOND, MILLISECOND, SECOND, Time};
use crate::replica::{Input, Job, Output, Replica};
use crate::server::{self, FRAME_BYTES_MAX, shard_of};
use crate::world::{FREE_SPACE_RESERVE, World, directory};

/// Inputs of one turn at the most, as in production.
const MAIL_AT_ONCE: usize = 1024;
/// How long a turn takes at least, and each input on top.
const TURN_COSTS: Time = 3 * MICROSECOND;
const INPUT_COSTS: Time = MICROSECOND;

impl World {
    /// Starts a node's process: every shard is recovered.
    pub(crate) fn start(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.starting = false;
        if node.process.is_some() {
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
        let mut process = Process::new(id, pool);
        for partition in 0..self.plan.shards {
            let shard = shard_of(partition);
            if !self.is_here(id, shard) {
                continue;
            }
            match self.open(id, shard, &mut process) {
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
        self.wake_worker(id);
    }

    fn open(&mut self, id: u64, shard: u64, process: &mut Process) -> Option<Result<Hosted, OpenError>> {
        let options = self.shard_options(id, shard, process.pool.clone());
        let disk: Arc<dyn Disk> = Arc::<FakeDisk>::clone(&self.nodes[&id].disk);
        let random = self.random.split();
        let mut outputs = Vec::new();
        let peers = self.peers(id, shard);
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
    pub(crate) fn host(&mut self, id: u64, shard: u64) {
        let Some(mut process) = self.nodes.get_mut(&id).and_then(|node| node.process.take()) else { return };
        let opened = self.open(id, shard, &mut process);
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
                self.kill(id, 100 * MILLISECOND);
            }
        }
    }

    fn check_opened(&mut self, id: u64, shard: u64) {
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
            self.wake_fetches(id, shard);
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
        let Some(asked) = process.asked.remove(&token) else { return };
        let bytes = server::answer(process, &asked, answer);
        self.network.send_response(asked.connection, bytes, &mut self.queue, &mut self.stats);
    }

    fn wake_fetches(&mut self, id: u64, shard: u64) {
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

    // ---- Disks ----

    /// How long the next write of a node takes.
    fn disk_latency(&mut self, id: u64) -> Time {
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

    fn begin_job(&mut self, id: u64, shard: u64, job: Job) {
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

    // ---- Peers ----

    pub(crate) fn peer_frame(&mut self, from: u64, to: u64, connection: u64, frame: &Bytes) {
        if !self.network.arrives(from, to, connection) {
            return;
        }
        let Some(process) = self.nodes.get_mut(&to).and_then(|node| node.process.as_mut()) else { return };
        let decoded = PeerDecoder::new(FRAME_BYTES_MAX).decode(&mut BytesMut::from(&frame[..]));
        let mut arrived: Vec<(u64, Input)> = Vec::new();
        let of_sender = |message: &RaftMessage| message.from == from;
        match decoded {
            Ok(Some(PeerMessage::Raft { shard, messages })) => {
                let messages = messages.into_iter().filter(of_sender);
                arrived.extend(messages.map(|message| (shard, ShardInput::Peer(message).into())));
            }
            Ok(Some(PeerMessage::Heartbeats(heartbeats))) => {
                for heartbeat in heartbeats {
                    let (shard, message) = (heartbeat.shard, heartbeat.to_message());
                    if of_sender(&message) {
                        arrived.push((shard, ShardInput::Peer(message).into()));
                    }
                }
            }
            Ok(Some(PeerMessage::Repair { shard, number, message })) => {
                arrived.push((shard, Input::Repair { from, number, message }));
            }
            // Damage: the connection ends, and both sides make another.
            Ok(_) | Err(_) => {
                self.stats.fault("damage-refused-by-frame");
                return self.disconnect(from, to);
            }
        }
        for (shard, input) in arrived {
            process.inbox.push_back(Mail::One(shard, Box::new(input)));
        }
        self.wake_worker(to);
    }

    /// The connection from one node to another breaks: what was on its way is lost, and the receiver notices.
    pub(crate) fn disconnect(&mut self, from: u64, to: u64) {
        self.network.disconnect(from, to);
        let (after, life) = (self.network.latency(&mut self.stats), self.nodes[&to].life);
        self.queue.after(after, Event::PeerLost { node: to, life, lost: from });
        let (again, life) = (self.network.latency(&mut self.stats), self.nodes[&from].life);
        self.queue.after(after + again, Event::PeerFound { node: from, life, found: to });
    }

    pub(crate) fn peer_lost(&mut self, id: u64, life: u64, lost: u64) {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.alive(life)) else { return };
        process.inbox.push_back(Mail::PeerLost(lost));
        self.note(id, "peer-lost", [lost], || format!("node {lost}"));
        self.wake_worker(id);
    }

    pub(crate) fn peer_found(&mut self, id: u64, life: u64, found: u64) {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.alive(life)) else { return };
        process.inbox.push_back(Mail::PeerFound(found));
        self.note(id, "peer-found", [found], || format!("node {found}"));
        self.wake_worker(id);
    }
}
