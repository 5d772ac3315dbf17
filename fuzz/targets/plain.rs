//! The second engine: seeded mutations of kept inputs through one target, without coverage and so many times faster.
//!
//! `plain FINDS_DIRECTORY FIRST_SEED COUNT INPUTS_DIRECTORY…`, with the target named by the environment. The inputs of
//! the directories come first, as they are. Then one seed is one input, so a run can be cut up, and any part of it
//! repeated. An input that breaks a promise is written to FINDS_DIRECTORY.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use lockstep::random::Random;
use lockstep_fuzz::mutation::mutate;
use lockstep_fuzz::{Target, broker, chosen, storage, wire};

/// An input that takes longer is a find.
const INPUT_SECONDS_MAX: u64 = 20;

/// The seed whose input is run.
static SEED: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [finds, first, count, directories @ ..] = &arguments[..] else {
        eprintln!("plain FINDS_DIRECTORY FIRST_SEED COUNT INPUTS_DIRECTORY…");
        return ExitCode::from(2);
    };
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let (first, count) = (number(first), number(count));
    let target = chosen(&[wire::TARGETS, storage::TARGETS, broker::TARGETS].concat());
    let kept = kept(directories);
    println!("{} kept inputs, seeds {first} .. {}", kept.len(), first + count);
    SEED.store(first, Relaxed);
    std::thread::spawn(watch);
    let began = Instant::now();
    if let Some((seed, input)) = find(target, &kept, first..first + count) {
        let path = Path::new(finds).join(format!("plain-{seed}"));
        std::fs::write(&path, input).expect("a directory for finds");
        println!("Test unit written to {}", path.display());
        return ExitCode::FAILURE;
    }
    println!("Done {count} runs in {} second(s)", began.elapsed().as_secs());
    ExitCode::SUCCESS
}

/// Every file of the directories, in order.
fn kept(directories: &[String]) -> Vec<Vec<u8>> {
    let list = |directory: &String| std::fs::read_dir(directory).expect("a directory of inputs");
    let mut paths: Vec<_> =
        directories.iter().flat_map(list).map(|entry| entry.expect("a listed file").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a listed file")).collect()
}

/// Runs the kept inputs, and those of `seeds`; the first that breaks a promise ends it.
fn find(target: Target, kept: &[Vec<u8>], seeds: std::ops::Range<u64>) -> Option<(u64, Vec<u8>)> {
    let breaks = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err();
    if let Some(input) = kept.iter().find(|input| breaks(input)) {
        return Some((seeds.start, input.clone()));
    }
    let mut input = Vec::new();
    for seed in seeds {
        SEED.store(seed, Relaxed);
        mutate(kept, &mut Random::new(seed), target.input_bytes_max, &mut input);
        if breaks(&input) {
            return Some((seed, input));
        }
    }
    None
}

/// Ends the process if an input takes too long, and says now and then how far it has come.
fn watch() {
    let mut before = None;
    loop {
        std::thread::sleep(Duration::from_secs(INPUT_SECONDS_MAX));
        let seed = SEED.load(Relaxed);
        println!("at seed {seed}");
        if before.replace(seed) == Some(seed) {
            eprintln!("the input of seed {seed} takes more than {INPUT_SECONDS_MAX} s");
            std::process::abort();
        }
    }
}
