//! Operations on a log, with faults and crashes in between, against the model.

use super::super::choices::Choices;
use super::common::random_history::{Choice, step, use_pool};
use super::common::{Rig, small_options};

impl Choice for Choices<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        Choices::below(self, limit)
    }
}

/// As long as the input has choices left.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut rig = Rig::new(small_options());
    if choices.flag() {
        use_pool(&mut rig);
        rig.recover();
    }
    while !choices.is_empty() {
        step(&mut rig, &mut choices);
    }
    rig.flush();
    if rig.log.failed().is_none() {
        rig.check_reads();
    }
}
