//! How everything moves: turns, deliveries, writes.

use lockstep::{
    replica::{self, Output, standing_without_replica},
    shard::{self, Input},
};
use lockstep_protocol::peer::RepairMessage;
use lockstep_storage::io::Disk;

use super::{Cluster, DIRECTORY, Letter};

impl Cluster {
    /// Hands a node one input and lets it take its turn. Nothing is delivered or written yet.
    pub fn step(&mut self, node: u64, input: impl Into<replica::Input>) {
        let now_ms = self.now_ms;
        let stepped = self.node(node);
        let Some(replica) = stepped.replica.as_mut() else { return };
        let mut outputs = Vec::new();
        let input = input.into();
        let is_tick = matches!(input, replica::Input::Shard(Input::Tick));
        let spare_ticks = if is_tick { replica.spare_ticks().max(stepped.spare_ticks) } else { 0 };
        replica.step(input, &mut outputs);
        replica.turn(now_ms, &mut outputs);
        assert!(spare_ticks == 0 || outputs.is_empty(), "a tick did something that was said to do nothing");
        stepped.spare_ticks = spare_ticks.saturating_sub(1);
        self.carry_out(node, outputs);
    }

    /// Hands a node what came in while it was busy: all of it is one turn.
    pub fn step_at_once(&mut self, node: u64, inputs: impl Iterator<Item = replica::Input>) {
        let now_ms = self.now_ms;
        let mut outputs = Vec::new();
        let stepped = self.node(node);
        // What was said of the next ticks held for as long as nothing came in.
        stepped.spare_ticks = 0;
        let replica = stepped.replica.as_mut().expect("the node runs");
        inputs.for_each(|input| replica.step(input, &mut outputs));
        replica.turn(now_ms, &mut outputs);
        self.carry_out(node, outputs);
    }

    /// Runs writes and delivers messages until nothing moves. The network keeps order and loses what is cut.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let wrote = self.run_writes();
            let Some(letter) = self.network.pop_front() else {
                if wrote {
                    continue;
                }
                return self.look();
            };
            let (from, to) = letter.way();
            if let Some(waiting) = self.paused.get_mut(&to) {
                waiting.push(letter);
            } else if !self.cut.contains(&(from, to)) && !self.tell_former(&letter) {
                self.step(to, letter.into_input());
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// Whoever has dropped his replica tells what that has promised, if that is asked; returns whether it was.
    fn tell_former(&mut self, letter: &Letter) -> bool {
        let Letter::Repair { from, to, number, message: RepairMessage::Ask } = *letter else { return false };
        let disk = self.disk(to);
        if disk.exists(DIRECTORY).expect("a healthy disk") {
            return false;
        }
        let standing = standing_without_replica(disk, DIRECTORY).expect("a healthy disk");
        let message = RepairMessage::Standing(standing);
        self.network.push_back(Letter::Repair { from: to, to: from, number, message });
        true
    }

    /// Flips the last bit of every body that is on its way.
    pub fn damage_entries_on_their_way(&mut self) {
        let messages = self.network.iter_mut().filter_map(|letter| match letter {
            Letter::Raft(message) => Some(message),
            Letter::Repair { .. } => None,
        });
        for entry in messages.flat_map(|message| &mut message.entries) {
            let mut body = entry.body.to_vec();
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            entry.body = body.into();
        }
    }

    /// Runs one write or delivers one message; returns whether there was any.
    pub fn deliver_one(&mut self) -> bool {
        if let Some(letter) = self.network.pop_front() {
            if !self.cut.contains(&letter.way()) {
                self.step(letter.way().1, letter.into_input());
            }
            return true;
        }
        for node in self.running() {
            if let Some(group) = self.node(node).writes.pop_front() {
                let outcome = (self.write_with)(group);
                self.step(node, Input::Synced(outcome));
                return true;
            }
        }
        false
    }

    /// Runs each node's waiting write, unless its disk is held; returns whether there was one.
    pub fn run_writes(&mut self) -> bool {
        let mut wrote = false;
        for node in self.running() {
            if self.disk_stopped.contains(&node) {
                continue;
            }
            if let Some(group) = self.node(node).writes.pop_front() {
                wrote = true;
                let outcome = (self.write_with)(group);
                self.step(node, Input::Synced(outcome));
            }
        }
        wrote
    }

    pub(super) fn carry_out(&mut self, node: u64, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(message) => {
                    self.messages_sent += 1;
                    self.network.push_back(Letter::Raft(message));
                }
                Output::Repair { to, number, message } => {
                    self.network.push_back(Letter::Repair { from: node, to, number, message });
                }
                Output::Write(group) => self.node(node).writes.push_back(group),
                Output::Job(job) => {
                    let learner = job.catching_up().map(|(learns, _)| learns.learner);
                    self.catch_up_reads.extend(learner);
                    if let Some(held) = self.held_catch_up_reads.as_mut().filter(|_| learner.is_some()) {
                        held.push((node, job));
                        continue;
                    }
                    let done = job.run();
                    self.cold_reads += usize::from(done.cold_read_bytes().is_some());
                    self.step(node, replica::Input::Done(done));
                }
                Output::Answer(token, verdict) => {
                    assert!(
                        self.answers.insert(token, verdict).is_none() || token == shard::NOBODY,
                        "answered twice"
                    );
                }
                Output::Reader(reader) => self.node(node).reader = Some(reader),
                Output::Forget => panic!("node {node}: {:?}", self.health(node)),
                Output::View(_) | Output::Recovered(_) => {}
                Output::Event(event) => self.node(node).events.push(event),
            }
        }
    }
}
