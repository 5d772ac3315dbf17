//! Random operations, crashes and restarts, against the model.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::random_history;

fn one_run(seed: u64) {
    println!("seed {seed}");
    random_history::one_run(seed);
}

#[test]
fn random_histories_with_crashes_always_recover_to_a_legal_log() {
    let first: u64 = std::env::var("LOCKSTEP_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let runs: u64 = std::env::var("LOCKSTEP_RUNS").map_or(2000, |runs| runs.parse().expect("a number"));
    (first..first + runs).for_each(one_run);
}

/// 3795: a torn frame behind the header was completed by a later life's. 8794: a seal that only the lost sync of the
/// next group covered was not written again.
#[test]
fn histories_that_once_broke_the_log_stay_legal() {
    [3795, 8794].into_iter().for_each(one_run);
}
