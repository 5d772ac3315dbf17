//! A log with a bug planted in it does not get past the model.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::random_history::one_run;
use lockstep_planted::{self as planted, Bug};

/// Histories that each bug is given to show itself: several times what any needs.
const SEEDS: u64 = 500;

/// What one log on one disk can show. The rest takes a cluster.
const CAUGHT_BY_THE_MODEL: [Bug; 19] = [
    Bug::SkipSync,
    Bug::RetryFailedSync,
    Bug::IgnoreFailedGroup,
    Bug::LoseVoteAtTruncation,
    Bug::ForgetToTruncate,
    Bug::TruncateWithoutSync,
    Bug::KeepSyncMarkAtTruncation,
    Bug::KeepTermsAtTruncation,
    Bug::ForgetDirectorySyncAfterRoll,
    Bug::ForgetDirectorySyncAfterRemoval,
    Bug::NameSegmentBeforeHeaderSync,
    Bug::RollWithoutSyncingPredecessor,
    Bug::InstallSnapshotWithoutRestart,
    Bug::RecoverWithoutSyncing,
    Bug::TrustVoteOfOneCopy,
    Bug::SkipBodyChecksum,
    Bug::AcceptFormerLife,
    Bug::SealBeforeSync,
    Bug::MarkAllBeforeSynced,
];

#[test]
fn the_model_catches_what_is_planted_in_a_log() {
    std::panic::set_hook(Box::new(|_| {}));
    let caught = |bug| {
        let seed = (0..SEEDS).find(|seed| {
            planted::activate(Some(bug));
            let outcome = std::panic::catch_unwind(|| one_run(*seed));
            planted::activate(None);
            outcome.is_err()
        });
        println!("{bug}: {seed:?}");
        seed.is_some()
    };
    let missed: Vec<String> =
        CAUGHT_BY_THE_MODEL.into_iter().filter(|bug| !caught(*bug)).map(Bug::name).collect();
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
