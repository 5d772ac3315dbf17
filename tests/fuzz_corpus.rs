//! Every input the fuzzer kept, and mutations of them, through every fuzz target, without the fuzzer.
//!
//! The targets are those of `fuzz/`, file for file; `fuzz/run` looks for new inputs. `LOCKSTEP_RUNS` mutations from
//! `LOCKSTEP_SEED` on make a longer run.

#![allow(clippy::unwrap_used, reason = "in a test, failing is what unwrap is for")]
#![allow(dead_code, reason = "the fuzzer's own binaries use the rest")]

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::path::PathBuf;

use fuzz::Target;
use fuzz::mutation::mutate;
use lockstep::random::Random;

/// A number from the environment.
fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |number| number.parse().expect("a number"))
}

/// The kept inputs of a target, with their names, in order; found by coverage, or the cause of a repaired fault.
fn kept(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let mut inputs = Vec::new();
    for directory in ["fuzz/corpus", "fuzz/regressions"] {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(directory).join(target.name);
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            inputs.push((path.clone(), std::fs::read(path).unwrap()));
        }
    }
    inputs.sort();
    inputs
}

/// Runs the kept inputs, then mutations of them.
fn replay(targets: &[Target]) {
    let (first, runs) = (setting("LOCKSTEP_SEED", 0), setting("LOCKSTEP_RUNS", 3000));
    for target in targets {
        let kept = kept(target);
        assert!(!kept.is_empty(), "{} has inputs", target.name);
        for (path, input) in &kept {
            println!("{}: {}", target.name, path.display());
            (target.run)(input);
        }
        let kept: Vec<Vec<u8>> = kept.into_iter().map(|(_, input)| input).collect();
        let mut input = Vec::new();
        for seed in first..first + runs {
            println!("{}: seed {seed}", target.name);
            mutate(&kept, &mut Random::new(seed), target.input_bytes_max, &mut input);
            (target.run)(&input);
        }
    }
}

#[test]
fn kept_inputs_and_their_mutations_break_no_decoder() {
    replay(fuzz::wire::TARGETS);
}

#[test]
fn kept_inputs_and_their_mutations_break_no_recovery() {
    replay(fuzz::storage::TARGETS);
}

#[test]
fn kept_inputs_and_their_mutations_break_no_shard() {
    replay(fuzz::broker::TARGETS);
}

#[test]
fn an_input_that_allocates_beyond_its_size_class_is_seen() {
    let ((), bytes) = fuzz::allocation::allocated_by(|| drop(Vec::<u8>::with_capacity(12_345)));
    assert!(bytes >= 12_345);
    let greedy = || fuzz::allocation::within_size_class(10, || drop(Vec::<u8>::with_capacity(1 << 20)));
    assert!(std::panic::catch_unwind(greedy).is_err());
}

#[test]
fn a_seed_is_one_input_and_mutations_meet_what_few_inputs_hold() {
    let kept = [vec![1; 40], vec![2; 9], Vec::new()];
    let input = |seed: u64| {
        let mut input = vec![9; 3];
        mutate(&kept, &mut Random::new(seed), 64, &mut input);
        input
    };
    assert!((0..1000).all(|seed| input(seed) == input(seed) && input(seed).len() <= 64));
    let spliced = |input: &[u8]| input.windows(2).any(|pair| pair == [1, 2]);
    let limit = |input: &[u8]| input.windows(4).any(|bytes| bytes == i32::MAX.to_le_bytes());
    assert!((0..10_000).map(input).any(|input| spliced(&input) && limit(&input)));
}
