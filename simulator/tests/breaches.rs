//! The all-seeing observer is not blind: each of its rules, broken on purpose, is reported by its name.

use std::sync::Arc;

use lockstep::raft::{GroupOptions, Membership, MembershipChange};
use lockstep::random::Random;
use lockstep::shard::{self, Append, AppendError, Command, Input, ShardOptions, ShardSettings};
use lockstep_protocol::batch::BatchHeader;
use lockstep_protocol::peer::RaftMessage;
use lockstep_protocol::{BatchBuilder, ProducerSequence, Record};
use lockstep_simulator::invariants::{Invariants, Violation};
use lockstep_simulator::replica::{Output, Replica};
use lockstep_simulator::world::directory;
use lockstep_storage::LogOptions;
use lockstep_storage::io::{Disk, FakeDisk, OpenMode};

const SHARD: u64 = 1;
const ENTRIES_ACKNOWLEDGED: u8 = 4;
const VOTE_GIVEN: u8 = 6;

/// A replica that is alone in its cluster, and its disk.
struct Alone {
    disk: Arc<FakeDisk>,
    replica: Replica,
}

impl Alone {
    /// One that has just been made: it has heard nothing, and voted for nobody.
    fn fresh() -> Self {
        let disk = FakeDisk::new();
        let shared: Arc<dyn Disk> = Arc::<FakeDisk>::clone(&disk);
        shared.create_dir("shards").and_then(|()| shared.sync_dir("")).expect("a fresh disk");
        let group = GroupOptions {
            node: 1,
            preferred: None,
            rotation: SHARD,
            election_ticks: 5,
            heartbeat_ticks: 1,
            busy_commits: 8,
            message_bytes_max: 1 << 20,
            inflight_messages_max: 8,
        };
        let options = ShardOptions {
            shard: SHARD,
            directory: directory(SHARD),
            log: LogOptions { shard: SHARD, ..LogOptions::default() },
            group,
            tick_ms: 10,
            seal_ticks: 0,
            settings: ShardSettings::default(),
        };
        let mut random = Random::new(1);
        shard::create(&shared, &options, &[1], &mut random).expect("a fresh disk takes a log");
        let opened = Replica::open(shared, options, Vec::new(), random, &mut Vec::new()).expect("no panic");
        Self { disk, replica: opened.expect("it was just made") }
    }

    /// One that holds a record for each of `values`, committed and synced.
    fn with(values: &[&str]) -> Self {
        let mut alone = Self::fresh();
        for _ in 0..20 {
            alone.take(Input::Tick);
        }
        for (token, value) in (1..).zip(values) {
            alone.take(Input::Append { token, append: append(value) });
        }
        assert_eq!(alone.replica.view().high_watermark, values.len() as u64);
        alone
    }

    fn take(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut outputs = Vec::new();
            self.replica.step(input, &mut outputs).expect("no panic");
            self.replica.turn(0, &mut outputs).expect("no panic");
            let group = outputs.into_iter().find_map(|output| match output {
                Output::Write(group) => Some(group),
                _ => None,
            });
            next = group.map(|group| Input::Synced(group.run()));
        }
    }
}

fn append(value: &str) -> Append {
    let mut builder = BatchBuilder::new();
    builder.push(&Record::new(1, value.to_owned())).expect("a small record");
    let batch = builder.build(ProducerSequence::NONE).expect("it has a record");
    let header = BatchHeader::parse(&batch).expect("a built batch");
    Append { batch, header, expected_next_lsn: None, fence: None, position: None }
}

/// An observer that has seen `alone` as node 1 and found nothing wrong.
fn observer_of(alone: &Alone) -> Invariants {
    let mut observer = Invariants::default();
    observer.opened(1, SHARD, &alone.replica, &alone.disk).expect("a sound replica");
    observer.synced(1, SHARD, &alone.replica);
    observer.group_done(1, SHARD, &alone.disk).expect("all of it is synced");
    observer.look(1, SHARD, &alone.replica).expect("a sound replica");
    observer
}

fn assert_breach(rule: &str, checked: Result<(), Violation>) {
    let violation = checked.expect_err("the breach is seen");
    assert_eq!(violation.rule, rule, "{}", violation.message);
}

#[test]
fn two_leaders_in_one_term_are_seen() {
    let mut observer = Invariants::default();
    observer.leads(1, SHARD, 7).expect("the first");
    observer.leads(1, SHARD, 7).expect("the same one");
    observer.leads(2, SHARD, 8).expect("another term");
    assert_breach("one-leader-per-term", observer.leads(2, SHARD, 7));
}

#[test]
fn two_entries_committed_under_one_index_are_seen() {
    let (one, mut other) = (Alone::with(&[]), Alone::with(&[]));
    other.take(Input::Append { token: 9, append: append("behind the leader's first entry") });
    let mut longer = Alone::with(&[]);
    longer.take(Input::Append { token: 9, append: append("something else") });
    let mut observer = observer_of(&one);
    observer.look(2, SHARD, &other.replica).expect("it goes on where the first one ends");
    assert_breach("committed-entries-agree", observer.look(3, SHARD, &longer.replica));
}

#[test]
fn a_high_watermark_that_goes_back_is_seen() {
    let mut observer = observer_of(&Alone::with(&["one", "two"]));
    assert_breach("high-watermark-forward", observer.look(1, SHARD, &Alone::with(&["one"]).replica));
}

#[test]
fn a_commit_that_no_majority_holds_is_seen() {
    let alone = Alone::with(&["one"]);
    let term_of = |_, index| alone.replica.log()?.term(index);
    let members = Membership::of_voters(&[1]);
    let durable =
        |observer: &Invariants| observer.commit_is_durable(SHARD, &alone.replica, &members, term_of);
    durable(&observer_of(&alone)).expect("its disk holds it");
    assert_breach("commit-durable-on-majority", durable(&Invariants::default()));
}

#[test]
fn an_acknowledgement_above_the_high_watermark_is_seen() {
    let alone = Alone::with(&["one"]);
    let observer = observer_of(&alone);
    observer.acknowledged(1, SHARD, 1, &alone.replica).expect("it is committed");
    assert_breach("acknowledged-when-committed", observer.acknowledged(1, SHARD, 2, &alone.replica));
}

#[test]
fn a_vote_that_is_not_on_disk_is_seen() {
    let alone = Alone::with(&[]);
    let observer = observer_of(&alone);
    let term = alone.replica.view().term;
    let vote = |term, to| RaftMessage { kind: VOTE_GIVEN, from: 1, to, term, ..RaftMessage::default() };
    observer.sends(SHARD, &vote(term, 1), false).expect("it voted for itself");
    assert_breach("vote-durable-before-message", observer.sends(SHARD, &vote(term, 2), false));
    assert_breach("vote-durable-before-message", observer.sends(SHARD, &vote(term + 1, 1), false));
}

#[test]
fn an_acknowledged_entry_that_is_not_synced_is_seen() {
    let alone = Alone::with(&["one"]);
    let observer = observer_of(&alone);
    let (term, last) = (alone.replica.view().term, alone.replica.log().expect("it runs").last_index());
    let acknowledges = |index| RaftMessage {
        kind: ENTRIES_ACKNOWLEDGED,
        from: 1,
        to: 2,
        term,
        index,
        ..RaftMessage::default()
    };
    observer.sends(SHARD, &acknowledges(last), false).expect("it is synced");
    assert_breach("acknowledged-entry-durable", observer.sends(SHARD, &acknowledges(last + 1), false));
}

#[test]
fn a_group_that_left_something_unsynced_is_seen() {
    let alone = Alone::with(&["one"]);
    let path = format!("{}/left-over", directory(SHARD));
    alone.disk.open(&path, OpenMode::CreateNew).expect("a healthy disk");
    assert_breach("group-synced", observer_of_without_group(&alone).group_done(1, SHARD, &alone.disk));
}

fn observer_of_without_group(alone: &Alone) -> Invariants {
    let mut observer = Invariants::default();
    observer.opened(1, SHARD, &alone.replica, &alone.disk).expect("a sound replica");
    observer
}

#[test]
fn a_recovery_that_lost_what_was_synced_is_seen() {
    let (long, empty) = (Alone::with(&["one", "two"]), Alone::with(&[]));
    let mut observer = observer_of(&long);
    assert_breach("recovery-keeps-synced", observer.opened(1, SHARD, &empty.replica, &empty.disk));
}

#[test]
fn a_replica_that_forgets_what_the_former_one_on_its_node_voted_is_seen() {
    let (former, fresh) = (Alone::with(&[]), Alone::fresh());
    let mut observer = observer_of(&former);
    let term = former.replica.view().term;
    observer.dropped(1, SHARD);
    let vote = |to| RaftMessage { kind: VOTE_GIVEN, from: 1, to, term, ..RaftMessage::default() };
    observer.sends(SHARD, &vote(1), false).expect("the former one voted for itself");
    assert_breach("vote-durable-before-message", observer.sends(SHARD, &vote(2), false));
    assert_breach("recovery-keeps-vote", observer.opened(1, SHARD, &fresh.replica, &fresh.disk));
}

/// An observer that has seen nodes 2 and 3 far ahead of anything they will show.
fn observer_of_what_is_committed() -> Invariants {
    let mut far = Alone::with(&[]);
    for epoch in 1..5 {
        far.take(Input::Command { token: 9, command: Command::Fence { epoch } });
    }
    let mut observer = Invariants::default();
    observer.look(2, SHARD, &far.replica).expect("a sound replica");
    observer.look(3, SHARD, &far.replica).expect("the same again");
    observer
}

#[test]
fn two_batches_shown_under_one_lsn_are_seen() {
    let mut observer = observer_of_what_is_committed();
    observer.look(2, SHARD, &Alone::with(&["one"]).replica).expect("nothing was shown before");
    assert_breach("served-records-agree", observer.look(3, SHARD, &Alone::with(&["other"]).replica));
}

#[test]
fn two_memberships_made_by_one_entry_are_seen() {
    let with_learner = |learner| {
        let mut alone = Alone::with(&[]);
        alone.take(Input::Membership {
            token: 9,
            changes: vec![MembershipChange::AddLearner(learner)],
            decided_on: None,
        });
        alone
    };
    let mut observer = observer_of_what_is_committed();
    observer.look(2, SHARD, &with_learner(7).replica).expect("the first to apply it");
    assert_breach("memberships-agree", observer.look(3, SHARD, &with_learner(8).replica));
}

#[test]
fn a_leader_without_a_vote_is_seen() {
    let members = Membership { learners: vec![2], ..Membership::of_voters(&[1]) };
    let observer = Invariants::default();
    observer.leads_members(1, SHARD, &members).expect("it has a vote");
    assert_breach("only-voters-lead", observer.leads_members(2, SHARD, &members));
}

#[test]
fn what_was_written_behind_a_greater_fence_is_seen() {
    let mut alone = Alone::with(&["one"]);
    alone.take(Input::Command { token: 9, command: Command::Fence { epoch: 5 } });
    let observer = observer_of(&alone);
    observer.derived.acknowledged(SHARD, 1, Some(4)).expect("it was written before");
    observer.derived.acknowledged(SHARD, 2, Some(5)).expect("its own epoch");
    assert_breach("fence-held", observer.derived.acknowledged(SHARD, 2, Some(4)));
}

#[test]
fn a_refusal_that_speaks_of_what_is_not_committed_is_seen() {
    let alone = Alone::with(&["one"]);
    let observer = observer_of(&alone);
    let refusal = |next_lsn| AppendError::ConditionFailed { next_lsn };
    observer.derived.refused(1, SHARD, &refusal(2), &alone.replica).expect("LSN 1 is committed");
    assert_breach("refused-when-committed", observer.derived.refused(1, SHARD, &refusal(3), &alone.replica));
}

#[test]
fn a_log_that_starts_later_than_anybody_allowed_is_seen() {
    let longer = Alone::with(&["one", "two", "three", "four"]);
    let mut observer = observer_of(&longer);
    let mut trimmed = Alone::with(&["one", "two"]);
    trimmed.take(Input::Command { token: 9, command: Command::Trim { log_start: 2 } });
    assert_breach("log-start-committed", observer.derived.look(2, SHARD, &trimmed.replica));
}
