//! A shard with everything around it made up: peers that say anything, clients, disk workers, crashes.

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep::raft::{ColdRead, GroupOptions, MembershipChange};
use lockstep::random::Random;
use lockstep::shard::positions::PositionCommit;
use lockstep::shard::{
    Answer, Append, Command, Health, Input, Output, Shard, ShardOptions, ShardSettings, create,
};
use lockstep_protocol::peer::RaftMessage;
use lockstep_protocol::{BatchBuilder, BatchHeader, ProducerSequence, Record};
use lockstep_storage::io::{Disk, FakeDisk};
use lockstep_storage::{Cache, LogOptions, LogReader, WriteGroup};

use super::super::choices::Choices;
use super::super::wire::raft_message;

/// Messages kept to be answered later.
const SENT_MAX: usize = 16;

/// As long as the input has choices left.
pub fn history(input: &[u8]) {
    let mut choices = Choices::new(input);
    let form = choices.byte();
    let mut host = Host::new(if form & 1 == 0 { &[1] } else { &[1, 2, 3] });
    while !choices.is_empty() {
        host.step(&mut choices);
    }
    host.turn();
    host.crash(7);
}

struct Host {
    disk: Arc<FakeDisk>,
    options: ShardOptions,
    shard: Shard,
    outputs: Vec<Output>,
    writing: Option<WriteGroup>,
    cold_reads: Vec<(ColdRead, LogReader)>,
    sent: Vec<RaftMessage>,
    asked: u64,
    waiting: BTreeSet<u64>,
    now_ms: i64,
    /// Alone in its group, what it acknowledged must be on its own disk.
    alone: bool,
    acknowledged_lsn: u64,
}

impl Host {
    fn new(voters: &[u64]) -> Self {
        let disk = FakeDisk::new();
        let log = LogOptions {
            shard: 7,
            segment_bytes: 8 << 10,
            cache: Cache::new(2 << 10),
            index_interval_bytes: 512,
            ..LogOptions::default()
        };
        let group = GroupOptions {
            node: 1,
            preferred: None,
            rotation: 7,
            election_ticks: 4,
            heartbeat_ticks: 1,
            busy_commits: 8,
            message_bytes_max: 1024,
            inflight_messages_max: 4,
        };
        let settings = ShardSettings::default();
        let (directory, tick_ms, seal_ticks) = ("shard".into(), 10, 0);
        let options = ShardOptions { shard: 7, directory, log, group, tick_ms, seal_ticks, settings };
        create(&(disk.clone() as Arc<dyn Disk>), &options, voters, &mut Random::new(1))
            .expect("a new directory");
        let (shard, outputs) = open(&disk, &options);
        let mut host = Self {
            disk,
            options,
            shard,
            outputs,
            writing: None,
            cold_reads: Vec::new(),
            sent: Vec::new(),
            asked: 0,
            waiting: BTreeSet::new(),
            now_ms: 1000,
            alone: voters.len() == 1,
            acknowledged_lsn: 0,
        };
        host.turn();
        host
    }

    fn step(&mut self, choices: &mut Choices) {
        let token = self.asked + 1;
        let input = match choices.below(32) {
            0..4 => Input::Tick,
            4..8 => {
                self.alone = false;
                Input::Peer(raft_message(choices))
            }
            8..13 => return self.answer_as_peer(choices),
            13..17 => self.append(choices, token),
            17 => match choices.below(4) {
                0 => Input::Command { token, command: Command::Fence { epoch: choices.number() } },
                1 => Input::Command { token, command: Command::CommitPosition(position(choices)) },
                2 => {
                    let command = Command::DeletePositions {
                        group: group(choices),
                        source: Some(choices.below(3) + 1),
                    };
                    Input::Command { token, command }
                }
                _ => Input::Positions { token, group: choices.flag().then(|| group(choices)) },
            },
            18 => Input::Command { token, command: Command::Trim { log_start: choices.number() } },
            19 => {
                self.alone = false;
                Input::Membership { token, changes: changes(choices), decided_on: None }
            }
            20 => Input::Tail { token },
            21 => Input::Transfer { token, to: choices.below(5) },
            22..25 => return self.written(),
            25 => return self.cold_read(choices),
            26 => Input::PeerLost { node: choices.below(5) },
            27 if choices.flag() => Input::PeerFound { node: choices.below(5) },
            27 => Input::DiskFull(choices.flag()),
            28 => Input::Seal,
            29 => return self.crash(choices.below(u64::MAX)),
            30 => {
                Input::Settings(ShardSettings { retention_bytes: Some(choices.number()), retention_ms: None })
            }
            _ => return self.turn(),
        };
        if let Input::Append { .. }
        | Input::Command { .. }
        | Input::Positions { .. }
        | Input::Membership { .. }
        | Input::Tail { .. }
        | Input::Transfer { .. } = input
        {
            self.asked = token;
            self.waiting.insert(token);
        }
        self.take(input);
    }

    fn take(&mut self, input: Input) {
        self.shard.step(input, &mut self.outputs);
        self.turn();
    }

    fn append(&mut self, choices: &mut Choices, token: u64) -> Input {
        let mut builder = BatchBuilder::new();
        for _ in 0..1 + choices.below(3) {
            builder.push(&Record::new(choices.number() as i64, choices.bytes(300))).expect("a small record");
        }
        let sequence = match choices.below(3) {
            0 => ProducerSequence {
                id: 5,
                epoch: choices.below(2) as i16,
                base_sequence: choices.number() as i32 & i32::MAX,
            },
            _ => ProducerSequence::NONE,
        };
        let batch = builder.build(sequence).expect("records");
        let header = BatchHeader::parse(&batch).expect("our own batch");
        let number = |choices: &mut Choices| (choices.byte() > 200).then(|| choices.number());
        let (expected_next_lsn, fence) = (number(choices), number(choices));
        let position = (choices.byte() > 127).then(|| position(choices));
        Input::Append { token, append: Append { batch, header, expected_next_lsn, fence, position } }
    }

    /// Answers one of the last messages as an honest peer would, at times a little wrong.
    fn answer_as_peer(&mut self, choices: &mut Choices) {
        let Some(at) = self.sent.len().checked_sub(1 + choices.below(4) as usize) else { return };
        let asked = &self.sent[at];
        let kind = match asked.kind {
            3 => 4,
            5 => 6,
            8 => 9,
            17 => 18,
            _ => return,
        };
        let last = asked.entries.last().map_or(asked.index, |entry| entry.index);
        let wrong = choices.byte() > 230;
        let answer = RaftMessage {
            kind,
            from: asked.to,
            to: asked.from,
            term: asked.term,
            index: if wrong { choices.number() } else { last },
            reject: wrong && choices.flag(),
            reject_hint: if wrong { choices.number() } else { 0 },
            commit: asked.commit,
            context: asked.context.clone(),
            ..RaftMessage::default()
        };
        self.take(Input::Peer(answer));
    }

    /// The disk worker reports.
    fn written(&mut self) {
        if let Some(group) = self.writing.take() {
            self.take(Input::Synced(group.run()));
        }
    }

    fn cold_read(&mut self, choices: &mut Choices) {
        if let Some((read, reader)) = self.cold_reads.pop() {
            let entries = reader.read_entries(read.low, read.high, read.max_bytes).ok();
            let entries = entries.filter(|_| choices.byte() < 200);
            self.take(Input::ColdRead { id: read.id, entries });
        }
    }

    fn turn(&mut self) {
        self.now_ms += 1;
        let before = self.shard.view().high_watermark;
        self.shard.turn(self.now_ms, &mut self.outputs);
        let watermark = self.shard.view().high_watermark;
        assert!(watermark >= before, "the high watermark never goes back");
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Send(message) => self.sent.push(message),
                Output::Write(group) => {
                    assert!(self.writing.replace(group).is_none(), "one group at a time");
                }
                Output::ColdRead(read, reader) => self.cold_reads.push((read, reader)),
                Output::Answer(token, answer) => {
                    assert!(token == 0 || self.waiting.remove(&token), "a request is answered once");
                    if let Ok(Answer::Appended(appended)) = answer {
                        assert!(appended.last_lsn <= watermark, "what is acknowledged is committed");
                        self.acknowledged_lsn = self.acknowledged_lsn.max(appended.last_lsn);
                    }
                }
                Output::View(_) | Output::Event(_) => {}
            }
        }
        self.sent.drain(..self.sent.len().saturating_sub(SENT_MAX));
    }

    /// Power goes, and comes back.
    fn crash(&mut self, seed: u64) {
        self.disk.restart(seed);
        let failed = self.shard.view().health != Health::Ok && self.shard.view().health != Health::Full;
        let start = self.shard.view().log_start;
        (self.writing, self.cold_reads) = (None, Vec::new());
        (self.shard, self.outputs) = open(&self.disk, &self.options);
        self.waiting.clear();
        self.turn();
        let description = self.shard.describe();
        if self.alone {
            assert!(description.last_lsn >= self.acknowledged_lsn, "what was acknowledged is there");
            assert!(!failed, "nothing went wrong");
        }
        assert!(description.last_lsn + 1 >= start, "the log does not end before it begins");
    }
}

fn open(disk: &Arc<FakeDisk>, options: &ShardOptions) -> (Shard, Vec<Output>) {
    let mut outputs = Vec::new();
    let disk: Arc<dyn Disk> = disk.clone();
    let opened = Shard::open(disk, options.clone(), Random::new(9), &mut outputs);
    let (shard, _) = opened.expect("a crash alone damages nothing");
    (shard, outputs)
}

/// Mostly one that can be kept.
fn position(choices: &mut Choices) -> PositionCommit {
    let number = |choices: &mut Choices| (choices.byte() > 200).then(|| choices.below(4));
    PositionCommit {
        group: group(choices),
        source: choices.below(3) + 1,
        next_lsn: choices.below(9),
        generation: choices.below(3),
        metadata: "m".repeat(choices.below(9) as usize * 513).into(),
        expected_next_lsn: number(choices),
        expected_generation: number(choices),
    }
}

fn group(choices: &mut Choices) -> Arc<str> {
    "g".repeat(choices.below(4) as usize * 100).into()
}

fn changes(choices: &mut Choices) -> Vec<MembershipChange> {
    let count = choices.below(4);
    (0..count)
        .map(|_| match (choices.below(3), choices.number()) {
            (0, node) => MembershipChange::AddVoter(node),
            (1, node) => MembershipChange::AddLearner(node),
            (_, node) => MembershipChange::Remove(node),
        })
        .collect()
}
