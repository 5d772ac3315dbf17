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
        for seed in first..first + runs {
            let mut random = Random::new(seed);
            let (path, input) = &kept[random.below(kept.len() as u64) as usize];
            println!("{}: seed {seed} on {}", target.name, path.display());
            (target.run)(&mutated(input, &mut random, target.input_bytes_max));
        }
    }
}

/// A few bytes changed, removed or repeated.
fn mutated(input: &[u8], random: &mut Random, bytes_max: usize) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(5) {
            0 if !bytes.is_empty() => drop(bytes.remove(at)),
            1 => bytes.insert(at, random.next_u64() as u8),
            2 => bytes.truncate(at),
            3 => bytes.extend_from_within(at..),
            _ if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    bytes.truncate(bytes_max);
    bytes
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
