//! The fuzzer for one target of this layer, named by the environment.
#![no_main]

use std::sync::LazyLock;

use lockstep_fuzz::{Target, chosen, wire::TARGETS};

static TARGET: LazyLock<Target> = LazyLock::new(|| chosen(TARGETS));

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
