//! The fuzzer for one target of this layer, named by the environment.
#![no_main]

use std::sync::LazyLock;

use lockstep_fuzz::{Target, broker::TARGETS, chosen};

static TARGET: LazyLock<Target> = LazyLock::new(|| chosen(TARGETS));

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
