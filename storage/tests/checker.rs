//! The model itself is checked: planted faults must be caught by it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Rig, small_options};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many of many crash seeds the model objects to, on a disk whose syncs lie or not.
fn objections(syncs_lie: bool) -> usize {
    let run = |seed: u64| {
        let mut rig = Rig::new(small_options());
        rig.append(1, 2, 500);
        rig.flush();
        rig.disk.lie_about_syncs(syncs_lie);
        (0..8).for_each(|_| rig.append(2, 1, 800));
        rig.flush();
        rig.disk.restart(seed);
        rig.recover();
    };
    (0..50).filter(|seed| catch_unwind(AssertUnwindSafe(|| run(*seed))).is_err()).count()
}

#[test]
fn a_disk_that_lies_about_syncs_is_caught_and_an_honest_one_is_not_blamed() {
    assert_eq!(objections(false), 0);
    assert!(objections(true) > 40);
}
