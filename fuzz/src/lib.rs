//! What each fuzz target does with its input.
//!
//! What holds in every one:
//! - It is a function of its input alone: the same bytes give the same run, on every machine.
//! - It panics if the product broke a promise, and never because an input is bad.
//!
//! | module | targets |
//! |---|---|
//! | [`wire`] | native frames, record batches, peer frames |
//! | [`storage`] | a data directory of any bytes, a damaged log, the vote file, log operations against a model |
//! | [`seeds`] | inputs with every message of the protocol, of its vectors |
//! | [`broker`] | a shard and its peers, derived state, metadata, configuration, HTTP, a consumer's checks |
//!
//! The fuzzer's binaries (`targets/`) run one target each; `tests/fuzz_corpus.rs` of the product includes this same
//! library and replays every kept input with all of them.

pub mod allocation;
pub mod broker;
pub mod choices;
pub mod mutation;
pub mod seeds;
pub mod storage;
pub mod wire;

/// One thing to throw inputs at.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: the directory of its inputs, and what `fuzz/run` is given.
    pub name: &'static str,
    /// Longest input that is of use, in bytes.
    pub input_bytes_max: usize,
    /// What it does with one.
    pub run: fn(&[u8]),
}

/// The environment variable that tells a fuzzing binary which of its targets to run.
pub const TARGET_VARIABLE: &str = "LOCKSTEP_FUZZ_TARGET";

/// The target that [`TARGET_VARIABLE`] names.
///
/// # Panics
/// If it names none of them.
pub fn chosen(targets: &[Target]) -> Target {
    let wanted = std::env::var(TARGET_VARIABLE).unwrap_or_default();
    let found = targets.iter().find(|target| target.name == wanted);
    let names: Vec<_> = targets.iter().map(|target| target.name).collect();
    *found.unwrap_or_else(|| panic!("{TARGET_VARIABLE} is {wanted:?}: set it to one of {names:?}"))
}
