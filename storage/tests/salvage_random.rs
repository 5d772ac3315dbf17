//! Any damage to any files of a log is repaired from a twin, through power cuts in the middle of it, and whatever was
//! intact is served meanwhile.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use bytes::Bytes;
use common::twin::{Twin, segment};
use common::{DIRECTORY, Random, Rig, small_options};
use lockstep_storage::io::fake::{FakeDisk, Fault};
use lockstep_storage::io::{Disk, OpenMode};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A log with some life behind it: terms, seals, truncations, restarts.
fn log(random: &mut Random) -> Twin {
    let mut rig = Rig::new(small_options());
    for _ in 0..30 + random.below(60) {
        let (commit, last) = (rig.log.commit(), rig.log.last_index());
        match random.below(24) {
            0..14 => {
                let term = rig.log.last_term() + u64::from(random.below(8) == 0);
                rig.append(term, random.below(4) as u32, random.below(1500) as usize);
            }
            14..18 => rig.flush(),
            18 => {
                rig.flush();
                rig.log.seal();
                rig.flush();
            }
            19 if commit < last => {
                let from = commit + 1 + random.below(last - commit);
                rig.truncate(from);
            }
            20 => rig.log.set_commit(commit + random.below(last - commit + 1)),
            21 => {
                rig.flush();
                rig.disk.restart(random.next());
                rig.recover();
            }
            _ => rig.append_system(lockstep_storage::EntryKind::Normal, b"noop"),
        }
    }
    rig.append(1, 1, 10);
    rig.flush();
    rig.log.seal();
    rig.flush();
    Twin::of(&rig)
}

/// Damages one of the files in some way; says how. The oldest segment's name alone stays: without it, nothing in the
/// files would tell that it ever was.
fn damage(twin: &Twin, disk: &Arc<FakeDisk>, random: &mut Random) -> String {
    let number = 1 + random.below(twin.segments());
    let path = segment(number);
    let Ok(file) = disk.open(&path, OpenMode::ReadWrite) else { return format!("{number} is gone") };
    let length = file.len().unwrap();
    let at = random.below(length);
    match random.below(7) {
        0 if number > 1 => {
            disk.remove_file(&path).unwrap();
            format!("{number} removed")
        }
        1 => {
            file.set_len(at).unwrap();
            format!("{number} cut to {at}")
        }
        2 => {
            let length = random.below(4000) as usize;
            let garbage: Bytes = (0..length).map(|_| random.next() as u8).collect();
            file.write_vectored_at(&[garbage], at).unwrap();
            format!("{length} bytes of garbage in {number} at {at}")
        }
        3 => {
            // A write that went to another place: a block of some segment, of this one too.
            let other = segment(1 + random.below(twin.segments()));
            let Ok(other) = disk.open(&other, OpenMode::Read) else { return "nothing".to_owned() };
            let from = random.below(other.len().unwrap()) / 512 * 512;
            let block = other.read_at(512 << random.below(4), from).unwrap();
            file.write_vectored_at(&[block], at / 512 * 512).unwrap();
            format!("a block written to {number} at {}", at / 512 * 512)
        }
        4 if random.below(3) == 0 => {
            [20, 4096 + 20].iter().for_each(|at| disk.flip_bit(&format!("{DIRECTORY}/vote"), *at, 1));
            "the vote".to_owned()
        }
        _ => {
            disk.flip_bit(&path, at, random.below(8) as u8);
            format!("a bit of {number} at {at}")
        }
    }
}

/// Repairs the log, from the start again after each of some power cuts at any of its operations.
fn repair_through_power_cuts(twin: &Twin, disk: &Arc<FakeDisk>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let operation = disk.counters().operations + 1 + random.below(40);
        disk.plant(operation, Fault::PowerCut);
        let attempt = catch_unwind(AssertUnwindSafe(|| twin.repair(disk)));
        assert!(attempt.is_ok() || disk.is_down(), "only the power cut may stop it");
        disk.restart(random.next());
    }
    twin.repair(disk);
}

/// So that no crash undoes the damage.
fn make_durable(disk: &Arc<FakeDisk>) {
    for name in disk.list(DIRECTORY).unwrap() {
        disk.open(&format!("{DIRECTORY}/{name}"), OpenMode::ReadWrite).unwrap().sync_all().unwrap();
    }
    disk.sync_dir(DIRECTORY).unwrap();
}

fn one_run(seed: u64, syncs_lie: bool) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let twin = log(&mut random);
    let disk = twin.disk();
    for _ in 0..=random.below(5) {
        println!("  {}", damage(&twin, &disk, &mut random));
    }
    make_durable(&disk);
    let survey = twin.survey(&disk);
    for run in survey.intact() {
        let mut next = *run.start();
        while next <= *run.end() {
            let read = survey.read(next, run.end() + 1, 3000).unwrap();
            assert!(!read.is_empty(), "entry {next} was said to be intact");
            for read in read {
                assert_eq!(read.entry, twin.entries[next as usize - 1]);
                next += 1;
            }
        }
    }
    disk.lie_about_syncs(syncs_lie);
    repair_through_power_cuts(&twin, &disk, &mut random);
    disk.restart(random.next());
    let (recovered, _) = common::recover(&disk, &twin.options).unwrap();
    twin.check(&disk, &recovered);
}

#[test]
fn random_damage_to_random_logs_is_always_repaired() {
    let first: u64 = std::env::var("LOCKSTEP_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let runs: u64 = std::env::var("LOCKSTEP_RUNS").map_or(1000, |runs| runs.parse().expect("a number"));
    (first..first + runs).for_each(|seed| one_run(seed, false));
}

#[test]
fn a_repair_whose_syncs_do_nothing_is_caught() {
    let caught = |seed: &u64| catch_unwind(AssertUnwindSafe(|| one_run(*seed, true))).is_err();
    assert!((0..50).filter(caught).count() > 20);
}
