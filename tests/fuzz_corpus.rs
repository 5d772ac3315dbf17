//! Every input the fuzzer kept, and mutations of them, through every fuzz target, without the fuzzer.
//!
//! The targets are those of `fuzz/`, file for file; `fuzz/run` looks for new inputs. `LOCKSTEP_RUNS` mutations from
//! `LOCKSTEP_SEED` on make a longer run.

#![allow(clippy::unwrap_used, reason = "in a test, failing is what unwrap is for")]
#![allow(dead_code, reason = "the fuzzer's own binaries use the rest")]

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::collections::BTreeSet;
use std::path::PathBuf;

use fuzz::mutation::mutate;
use fuzz::{Target, seeds};
use lockstep::random::Random;
use lockstep_protocol::Api;

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

/// `LOCKSTEP_WRITE_SEEDS=1` writes them anew.
#[test]
fn every_message_of_the_protocol_is_a_kept_input_of_its_decoder() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut apis = BTreeSet::new();
    for entry in std::fs::read_dir(root.join("protocol/vectors")).unwrap() {
        let vector = entry.unwrap().path();
        let name = vector.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "batch" {
            continue;
        }
        let frame = bytes_of_hex(&std::fs::read_to_string(&vector).unwrap());
        let (target, input) = seeds::of_vector(&name, &frame).unwrap_or_else(|| panic!("{name}"));
        let kept = root.join("fuzz/corpus").join(target).join(format!("{}{name}", seeds::PREFIX));
        if std::env::var_os("LOCKSTEP_WRITE_SEEDS").is_some() {
            std::fs::write(&kept, &input).unwrap();
        }
        assert_eq!(
            std::fs::read(&kept).ok(),
            Some(input),
            "{}: LOCKSTEP_WRITE_SEEDS=1 writes it",
            kept.display()
        );
        if target == "native_request" {
            apis.extend(Api::from_byte(frame[9]).map(Api::name));
        }
    }
    assert_eq!(apis, Api::ALL.iter().map(|api| api.name()).collect(), "each api has a request among them");
}

fn bytes_of_hex(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let digits: Vec<u8> = lines.flat_map(str::bytes).filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
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
