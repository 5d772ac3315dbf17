//! Scenarios about who takes part: one replica that changes its own membership.

use std::sync::Arc;

use lockstep::raft::{GroupOptions, MembershipChange};
use lockstep::random::Random;
use lockstep::shard::{self, Former, Input, NOBODY, Output, Shard, ShardOptions, ShardSettings};
use lockstep_storage::LogOptions;
use lockstep_storage::io::{Disk, FakeDisk};

const SHARDS: &str = "shards";
const DIRECTORY: &str = "shards/1";

/// The only voter of its shard, and its disk.
struct Lone {
    disk: Arc<FakeDisk>,
    shard: Shard,
}

impl Lone {
    fn create(disk: &Arc<FakeDisk>) -> Result<Self, String> {
        let shared: Arc<dyn Disk> = Arc::<FakeDisk>::clone(disk);
        if !shared.exists(SHARDS).unwrap_or(false) {
            let made = shared.create_dir(SHARDS).and_then(|()| shared.sync_dir(""));
            made.map_err(|error| error.to_string())?;
        }
        shard::create(&shared, &options(), &[1], &mut Random::new(1)).map_err(|error| error.to_string())?;
        Self::open(disk)
    }

    fn open(disk: &Arc<FakeDisk>) -> Result<Self, String> {
        let shared: Arc<dyn Disk> = Arc::<FakeDisk>::clone(disk);
        let opened = Shard::open(shared, options(), Random::new(2), &mut Vec::new());
        let (shard, _) = opened.map_err(|error| error.to_string())?;
        Ok(Self { disk: Arc::clone(disk), shard })
    }

    fn take(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut outputs = Vec::new();
            self.shard.step(input, &mut outputs);
            self.shard.turn(0, &mut outputs);
            next = outputs.into_iter().find_map(|output| match output {
                Output::Write(group) => Some(Input::Synced(group.run())),
                _ => None,
            });
        }
    }

    fn lead(&mut self) {
        while !self.shard.view().is_leader {
            self.take(Input::Tick);
        }
    }
}

fn options() -> ShardOptions {
    ShardOptions {
        shard: 1,
        directory: DIRECTORY.into(),
        log: LogOptions { shard: 1, ..LogOptions::default() },
        group: GroupOptions {
            node: 1,
            preferred: None,
            rotation: 1,
            election_ticks: 5,
            heartbeat_ticks: 1,
            busy_commits: 8,
            message_bytes_max: 1 << 20,
            inflight_messages_max: 8,
        },
        tick_ms: 10,
        seal_ticks: 0,
        settings: ShardSettings::default(),
    }
}

pub(super) fn a_restart_goes_back_by_one_membership_at_the_most() -> Result<(), String> {
    let disk = FakeDisk::new();
    let mut lone = Lone::create(&disk)?;
    lone.lead();
    for learner in [2, 3] {
        lone.take(Input::Membership {
            token: NOBODY,
            changes: vec![MembershipChange::AddLearner(learner)],
            decided_on: None,
        });
    }
    lone.disk.power_cut();
    lone.disk.restart(1);
    let mut again = Lone::open(&disk)?;
    again.shard.turn(0, &mut Vec::new());
    let members = again.shard.membership();
    match members.learners.contains(&2) {
        true => Ok(()),
        false => Err(format!("two changes back, to {members:?}")),
    }
}

pub(super) fn a_replica_that_comes_back_begins_behind_the_former_one() -> Result<(), String> {
    let disk = FakeDisk::new();
    let mut lone = Lone::create(&disk)?;
    lone.lead();
    let promised: Former = lone.shard.promised();
    let written = promised.write(&*disk, DIRECTORY);
    let removed = written.and_then(|()| lockstep::engine::remove_files(&*disk, DIRECTORY));
    removed.map_err(|error| error.to_string())?;
    let again = Lone::create(&disk)?;
    let term = again.shard.view().term;
    match term > promised.term {
        true => Ok(()),
        false => Err(format!("it begins in term {term}; the former one was in {}", promised.term)),
    }
}
