//! Bugs that whole-cluster runs cannot show, each with the few steps that do: a machine that dies between two steps of
//! a start, a copy that rots at rest.
//!
//! Each is a claim that holds for the code as it is meant; [`Scenario::run`] says what is wrong where it does not.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep::shard::producers::{Producers, Sequence, Standing};
use lockstep_client::ProduceError;
use lockstep_client::sans_io::{Conditions, Dispatch, Identity, Lane, LaneSettings};
use lockstep_planted::Bug;
use lockstep_protocol::{BatchBuilder, BatchHeader, Record};
use lockstep_storage::io::Disk;
use lockstep_storage::io::fake::{FakeDisk, Fault};
use lockstep_storage::{
    Checkpoint, Entry, EntryKind, Envelope, EnvelopeKind, Log, LogOptions, Recovered, RecoveryError,
    RollState, SegmentPool, Vote,
};

use super::members;

const DIRECTORY: &str = "log";
/// What a power cut leaves is tried for so many seeds of the disk.
const DISK_SEEDS: u64 = 24;

/// A claim about one log on one disk.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What holds.
    pub claim: &'static str,
    /// The bug with which it does not.
    pub bug: Bug,
    steps: fn() -> Result<(), String>,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: &'static [Self] = &[
        Self {
            claim: "a-created-log-survives-a-power-cut",
            bug: Bug::ForgetDirectorySyncAfterCreation,
            steps: a_created_log_survives_a_power_cut,
        },
        Self {
            claim: "a-rotten-copy-of-the-vote-loses-no-vote",
            bug: Bug::StoreVoteInOneCopy,
            steps: a_rotten_copy_of_the_vote_loses_no_vote,
        },
        Self {
            claim: "damage-to-what-was-synced-is-not-cut-off",
            bug: Bug::CutDamageBelowSyncMark,
            steps: damage_to_what_was_synced_is_not_cut_off,
        },
        Self {
            claim: "a-name-not-yet-durable-voids-nothing",
            bug: Bug::ForgetDirectorySyncInRecovery,
            steps: a_name_not_yet_durable_voids_nothing,
        },
        Self {
            claim: "a-crash-during-an-install-leaves-one-log",
            bug: Bug::InstallSnapshotWithoutRestart,
            steps: a_crash_during_an_install_leaves_one_log,
        },
        Self {
            claim: "what-recovery-showed-stays",
            bug: Bug::RecoverWithoutSyncing,
            steps: what_recovery_showed_stays,
        },
        Self {
            claim: "a-cut-under-way-voids-the-seal-before-it",
            bug: Bug::TrustSealDuringCut,
            steps: a_cut_under_way_voids_the_seal_before_it,
        },
        Self {
            claim: "a-vote-of-one-copy-is-written-again",
            bug: Bug::TrustVoteOfOneCopy,
            steps: a_vote_of_one_copy_is_written_again,
        },
        Self {
            claim: "a-torn-group-is-no-damage",
            bug: Bug::MarkAllBeforeSynced,
            steps: a_torn_group_is_no_damage,
        },
        Self { claim: "a-seal-comes-last", bug: Bug::SealBeforeSync, steps: a_torn_group_is_no_damage },
        Self {
            claim: "the-commit-is-no-sync-mark",
            bug: Bug::TakeCommitForSynced,
            steps: a_torn_group_is_no_damage,
        },
        Self {
            claim: "a-former-life-does-not-come-back",
            bug: Bug::AcceptFormerLife,
            steps: a_former_life_does_not_come_back,
        },
        Self {
            claim: "an-open-attempt-keeps-its-sequence",
            bug: Bug::ReuseSequenceOfOpenAttempt,
            steps: an_open_attempt_keeps_its_sequence,
        },
        Self {
            claim: "what-was-cut-off-stays-away",
            bug: Bug::TruncateWithoutSync,
            steps: what_was_cut_off_stays_away,
        },
        Self {
            claim: "a-body-unlike-its-checksum-is-not-taken",
            bug: Bug::SkipBodyChecksum,
            steps: a_body_unlike_its_checksum_is_not_taken,
        },
        Self {
            claim: "a-gap-in-a-sequence-is-refused",
            bug: Bug::AcceptSequenceGap,
            steps: a_gap_in_a_sequence_is_refused,
        },
        Self {
            claim: "a-restart-goes-back-by-one-membership-at-the-most",
            bug: Bug::RestartOnOlderMembership,
            steps: members::a_restart_goes_back_by_one_membership_at_the_most,
        },
        Self {
            claim: "a-replica-that-comes-back-begins-behind-the-former-one",
            bug: Bug::ForgetFormerReplica,
            steps: members::a_replica_that_comes_back_begins_behind_the_former_one,
        },
    ];

    /// The one for a bug.
    pub fn of(bug: Bug) -> Option<Self> {
        Self::ALL.iter().copied().find(|scenario| scenario.bug == bug)
    }

    /// Goes through its steps.
    ///
    /// # Errors
    /// What was not as claimed.
    pub fn run(self) -> Result<(), String> {
        (self.steps)()
    }
}

fn a_created_log_survives_a_power_cut() -> Result<(), String> {
    for seed in 0..DISK_SEEDS {
        let disk = FakeDisk::new();
        create(&disk)?;
        disk.restart(seed);
        if !disk.exists(DIRECTORY).map_err(text)? {
            return Err(format!("disk seed {seed}: the log is gone"));
        }
    }
    Ok(())
}

fn a_rotten_copy_of_the_vote_loses_no_vote() -> Result<(), String> {
    let given = Vote { term: 5, voted_for: 2, commit: 0 };
    for copy in 0..2 {
        let disk = FakeDisk::new();
        create(&disk)?;
        let mut log = recover(&disk)?.log;
        log.set_vote(given);
        flush(&mut log);
        disk.flip_bit(
            &format!("{DIRECTORY}/{}", lockstep_storage::vote::VOTE_FILE_NAME),
            copy * 4096 + 20,
            3,
        );
        let found = recover(&disk)?.vote;
        if (found.term, found.voted_for) != (given.term, given.voted_for) {
            return Err(format!("with copy {copy} rotten {found:?} is left of {given:?}"));
        }
    }
    Ok(())
}

fn a_cut_under_way_voids_the_seal_before_it() -> Result<(), String> {
    // Only a disk that keeps neither the new length nor the zeros before it shows what was cut.
    let disks = 4 * DISK_SEEDS;
    for (operation, seed) in (1..8).flat_map(|operation| (0..disks).map(move |seed| (operation, seed))) {
        let disk = FakeDisk::new();
        create(&disk)?;
        let mut log = recover(&disk)?.log;
        append(&mut log, 3)?;
        flush(&mut log);
        log.seal();
        flush(&mut log);
        append(&mut log, 2)?;
        flush(&mut log);
        log.truncate(4).map_err(text)?;
        disk.plant(disk.counters().operations + operation, Fault::Error(ErrorKind::Other));
        flush(&mut log);
        disk.kill_process();
        let shown = recover(&disk)?.log.last_index();
        disk.restart(seed);
        let left = recover(&disk)?.log.last_index();
        if left != shown {
            return Err(format!(
                "disk seed {seed}, operation {operation}: {left} is left where {shown} was shown"
            ));
        }
    }
    Ok(())
}

fn a_vote_of_one_copy_is_written_again() -> Result<(), String> {
    for (operation, seed) in (1..5).flat_map(|operation| (0..DISK_SEEDS).map(move |seed| (operation, seed))) {
        let disk = FakeDisk::new();
        create(&disk)?;
        let mut log = recover(&disk)?.log;
        log.set_vote(Vote { term: 5, voted_for: 2, commit: 0 });
        disk.plant(disk.counters().operations + operation, Fault::Error(ErrorKind::Other));
        flush(&mut log);
        disk.kill_process();
        let shown = recover(&disk)?.vote;
        disk.restart(seed);
        let left = recover(&disk)?.vote;
        if left != shown {
            return Err(format!("disk seed {seed}, operation {operation}: {left:?} is left of {shown:?}"));
        }
    }
    Ok(())
}

fn damage_to_what_was_synced_is_not_cut_off() -> Result<(), String> {
    let disk = FakeDisk::new();
    create(&disk)?;
    let mut log = recover(&disk)?.log;
    for _ in 0..3 {
        append(&mut log, 1)?;
        flush(&mut log);
    }
    let last = log.last_index();
    drop(log);
    // The first frame stands right behind the segment's header.
    disk.flip_bit(&format!("{DIRECTORY}/{}", lockstep_storage::segment::file_name(1)), 4096 + 20, 0);
    match Log::recover(disk, DIRECTORY, LogOptions::default(), &mut |_| ()) {
        Err(RecoveryError::Faulty(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(recovered) => Err(format!("of {last} synced entries {} are left", recovered.log.last_index())),
    }
}

fn a_name_not_yet_durable_voids_nothing() -> Result<(), String> {
    for (cut, seed) in (1..15).flat_map(|cut| (0..DISK_SEEDS).map(move |seed| (cut, seed))) {
        let disk = FakeDisk::new();
        create(&disk)?;
        let mut log = recover(&disk)?.log;
        for nonce in 2..5 {
            append(&mut log, 3)?;
            log.roll(RollState::default(), [nonce; 16]).map_err(text)?;
        }
        flush(&mut log);
        let last = log.last_index();
        let snapshot = Checkpoint { index: last + 100, term: 2, commit: last + 100, ..Checkpoint::default() };
        log.install(snapshot, [9; 16]).map_err(text)?;
        // Create, write, sync, rename: then the sync of the names, which fails.
        disk.plant(disk.counters().operations + 5, Fault::Error(ErrorKind::Other));
        flush(&mut log);
        disk.kill_process();
        // The next process sees the new name, and the power fails while it drops what that one voids.
        disk.plant(disk.counters().operations + cut, Fault::PowerCut);
        drop(recover(&disk));
        disk.restart(seed);
        let left = recover(&disk).map_err(|error| format!("disk seed {seed}, cut at {cut}: {error}"))?;
        let (first, end) = (left.log.first_index(), left.log.last_index());
        if end < last || (end == last && first > 1) {
            return Err(format!(
                "disk seed {seed}, cut at {cut}: of entries 1 to {last} {first} to {end} are left"
            ));
        }
    }
    Ok(())
}

fn a_crash_during_an_install_leaves_one_log() -> Result<(), String> {
    for (cut, seed) in (1..20).flat_map(|cut| (0..4).map(move |seed| (cut, seed))) {
        let disk = FakeDisk::new();
        create(&disk)?;
        let mut log = recover(&disk)?.log;
        append(&mut log, 3)?;
        log.roll(RollState::default(), [2; 16]).map_err(text)?;
        append(&mut log, 1)?;
        flush(&mut log);
        let snapshot = Checkpoint { index: 100, term: 2, commit: 100, ..Checkpoint::default() };
        log.install(snapshot, [9; 16]).map_err(text)?;
        disk.plant(disk.counters().operations + cut, Fault::PowerCut);
        flush(&mut log);
        disk.restart(seed);
        let left = recover(&disk).map_err(|error| format!("disk seed {seed}, cut at {cut}: {error}"))?;
        if !matches!(left.log.last_index(), 4 | 100) {
            return Err(format!("disk seed {seed}, cut at {cut}: the log ends at {}", left.log.last_index()));
        }
    }
    Ok(())
}

fn what_recovery_showed_stays() -> Result<(), String> {
    for seed in 0..DISK_SEEDS {
        let disk = FakeDisk::new();
        create(&disk)?;
        let mut log = recover(&disk)?.log;
        append(&mut log, 3)?;
        // Written, and the process dies before the sync: the page cache has it.
        disk.plant(disk.counters().operations + 2, Fault::Error(ErrorKind::Other));
        flush(&mut log);
        disk.kill_process();
        let shown = recover(&disk)?.log.last_index();
        disk.restart(seed);
        let left = recover(&disk)?.log.last_index();
        if left < shown {
            return Err(format!("disk seed {seed}: recovery showed {shown} entries, and {left} are left"));
        }
    }
    Ok(())
}

/// Entries, a new term and a seal that was asked for, torn by a power cut at any step of their group.
fn a_torn_group_is_no_damage() -> Result<(), String> {
    for (cut, seed) in (1..8).flat_map(|cut| (0..DISK_SEEDS).map(move |seed| (cut, seed))) {
        let disk = FakeDisk::new();
        create(&disk)?;
        let mut log = recover(&disk)?.log;
        append(&mut log, 3)?;
        // A majority elsewhere can commit what this disk has not synced.
        log.set_commit(3);
        log.set_vote(Vote { term: 2, voted_for: 0, commit: 3 });
        log.seal();
        disk.plant(disk.counters().operations + cut, Fault::PowerCut);
        flush(&mut log);
        disk.restart(seed);
        recover(&disk).map_err(|error| format!("disk seed {seed}, cut at {cut}: {error}"))?;
    }
    Ok(())
}

/// A segment that was cut off goes to the pool, and begins its next life as the one after the cut.
fn a_former_life_does_not_come_back() -> Result<(), String> {
    let disk = FakeDisk::new();
    create(&disk)?;
    let pool = SegmentPool::open(disk.clone(), 2, 0).map_err(text)?;
    // Of about a segment's length, or the pool would not keep it.
    let segment_bytes = 4096 + 3 * 948;
    let options = LogOptions { pool: Some(Arc::new(pool)), segment_bytes, ..LogOptions::default() };
    let mut log = Log::recover(disk.clone(), DIRECTORY, options, &mut |_| ()).map_err(text)?.log;
    for entry in 1..=6 {
        if entry == 4 {
            log.roll(RollState::default(), [2; 16]).map_err(text)?;
        }
        append(&mut log, 1)?;
        flush(&mut log);
    }
    log.truncate(3).map_err(text)?;
    log.roll(RollState::default(), [3; 16]).map_err(text)?;
    flush(&mut log);
    match recover(&disk)?.log.last_index() {
        2 => Ok(()),
        last => Err(format!("entries 3 to 6 were cut off, and the log ends at {last}")),
    }
}

fn what_was_cut_off_stays_away() -> Result<(), String> {
    for seed in 0..DISK_SEEDS {
        let disk = FakeDisk::new();
        create(&disk)?;
        let mut log = recover(&disk)?.log;
        append(&mut log, 3)?;
        flush(&mut log);
        log.truncate(2).map_err(text)?;
        flush(&mut log);
        disk.restart(seed);
        let left = recover(&disk)?.log.last_index();
        if left != 1 {
            return Err(format!("disk seed {seed}: of one entry that is left after a cut {left} came back"));
        }
    }
    Ok(())
}

fn a_body_unlike_its_checksum_is_not_taken() -> Result<(), String> {
    let disk = FakeDisk::new();
    create(&disk)?;
    let mut log = recover(&disk)?.log;
    let body = Bytes::from(vec![7; 900]);
    let envelope = Envelope {
        kind: EnvelopeKind::Batch,
        record_count: 1,
        first_lsn: 1,
        leader_time_ms: 0,
        max_timestamp_ms: 0,
        body_crc: Envelope::checksum(&body),
        state_length: 0,
        fence: 0,
    };
    let envelope = Bytes::copy_from_slice(&envelope.encode());
    log.append(Entry { index: 1, term: 1, kind: EntryKind::Normal, envelope, body }).map_err(text)?;
    flush(&mut log);
    // Behind the segment's header, the frame's, the envelope, and what the frame's own checksum covers.
    disk.flip_bit(
        &format!("{DIRECTORY}/{}", lockstep_storage::segment::file_name(1)),
        4096 + 48 + 48 + 500,
        0,
    );
    match recover(&disk)?.log.last_index() {
        0 => Ok(()),
        _ => Err("a body with a flipped bit was taken".to_owned()),
    }
}

fn a_gap_in_a_sequence_is_refused() -> Result<(), String> {
    let sequence = |first| Sequence { producer: 7, epoch: 0, first, count: 1 };
    let mut producers = Producers::default();
    producers.record(sequence(0), 1, 1);
    match producers.judge(sequence(2)) {
        Standing::OutOfOrder { expected: 1 } => Ok(()),
        other => Err(format!("behind sequence 0, sequence 2 is {other:?}")),
    }
}

fn an_open_attempt_keeps_its_sequence() -> Result<(), String> {
    let mut lane = Lane::without_budget(LaneSettings {
        partition: 0,
        linger: Duration::ZERO,
        batch_bytes: 1 << 20,
        in_flight_max: 5,
        fence: None,
        identity: Identity { id: 7, epoch: 0 },
    });
    let batch = || {
        let mut builder = BatchBuilder::new();
        builder.push(&Record::new(0, "x")).map(|()| builder).map_err(text)
    };
    let far = Conditions { expected_next_lsn: Some(7), ..Conditions::default() };
    let waiting = [lane.push_batch(batch()?, far, 0), lane.push_batch(batch()?, Conditions::default(), 0)];
    let first = lane.next_dispatch(Duration::ZERO);
    lane.resend(true);
    drop(lane.next_dispatch(Duration::ZERO));
    lane.front_failed(ProduceError::ConditionFailed { next_lsn: 3 });
    drop(waiting);
    let sequence =
        |dispatch: &Dispatch| BatchHeader::parse(&dispatch.batch).ok().map(|header| header.base_sequence);
    let next = lane.next_dispatch(Duration::ZERO);
    match (first.as_ref().and_then(sequence), next.as_ref().and_then(sequence)) {
        (Some(first), Some(next)) if first == next => {
            Err(format!("sequence {first} went out again, for another batch"))
        }
        _ => Ok(()),
    }
}

fn create(disk: &Arc<FakeDisk>) -> Result<(), String> {
    let genesis = Checkpoint { log_start: 1, ..Checkpoint::default() };
    Log::create(disk.clone(), DIRECTORY, &LogOptions::default(), genesis, [1; 16]).map_err(text)
}

fn recover(disk: &Arc<FakeDisk>) -> Result<Recovered, String> {
    Log::recover(disk.clone(), DIRECTORY, LogOptions::default(), &mut |_| ()).map_err(text)
}

fn append(log: &mut Log, entries: u64) -> Result<(), String> {
    for _ in 0..entries {
        let (index, body) = (log.last_index() + 1, Bytes::from(vec![7; 900]));
        let entry = Entry { index, term: 1, kind: EntryKind::Normal, envelope: Bytes::new(), body };
        log.append(entry).map_err(text)?;
    }
    Ok(())
}

fn flush(log: &mut Log) {
    while let Some(group) = log.take_group() {
        // A failure shows in the log itself.
        drop(log.group_done(group.run()));
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
