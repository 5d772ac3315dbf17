//! What a record costs, counted in what does not drift: allocations, bytes of them, messages, writes, syncs, bytes written. Held
//! against the committed baselines; never timed.
//!
//! `LOCKSTEP_WRITE_COSTS=1 cargo test --test costs` writes the baselines anew: look at the difference before committing it.
//! Instructions are counted by `cargo bench --bench instructions`, over the same ways.

#![allow(clippy::unwrap_used, reason = "in a test, failing is what unwrap is for")]
// An allocator cannot be written without `unsafe`; this one only counts and passes on.
#![allow(unsafe_code)]

#[path = "costs/baselines.rs"]
mod baselines;
mod cluster;
#[path = "costs/paths.rs"]
mod paths;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use baselines::{Baselines, Figure};
use paths::Path;

const BASELINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/costs/allocations.json");
/// Turns that are counted.
const TURNS: u64 = 50;

thread_local! {
    static ALLOCATIONS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    /// The simulated disk is at work, which production does not have.
    static PAUSED: Cell<bool> = const { Cell::new(false) };
}

/// Counts what this thread allocates: how often, and how many bytes.
struct Counting;

fn count(bytes: usize) {
    // A thread that ends may allocate when its own values are gone already.
    if PAUSED.try_with(Cell::get).unwrap_or(true) {
        return;
    }
    let _ = ALLOCATIONS.try_with(|counted| {
        let (times, all) = counted.get();
        counted.set((times + 1, all + bytes as u64));
    });
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What one turn of each way costs, on three replicas together; allocations without those of the simulated disks' writes.
fn measured() -> Vec<Figure> {
    let mut figures = Vec::new();
    for mut path in Path::all() {
        path.write_with(|group| {
            PAUSED.set(true);
            let outcome = group.run();
            PAUSED.set(false);
            outcome
        });
        path.take_messages();
        let (disks, (times, bytes)) = (path.disk_work(), ALLOCATIONS.get());
        (0..TURNS).for_each(|_| path.go());
        let (disks_after, (times_after, bytes_after)) = (path.disk_work(), ALLOCATIONS.get());
        let messages = path.take_messages();
        let mut figure = |what, value: f64| figures.push(Figure { path: path.name.into(), what, value });
        let per_batch = |count: u64| count as f64 / (TURNS * path.batches) as f64;
        let per_byte = |count: u64| count as f64 / (TURNS * path.bytes) as f64;
        figure("allocations per batch", per_batch(times_after - times));
        figure("allocated bytes per batch byte", per_byte(bytes_after - bytes));
        figure("messages between brokers per batch", per_batch(messages));
        figure("writes per batch", per_batch(disks_after.writes - disks.writes));
        figure("syncs per batch", per_batch(disks_after.syncs - disks.syncs));
        figure("reads per batch", per_batch(disks_after.reads - disks.reads));
        figure("bytes written per batch byte", per_byte(disks_after.written_bytes - disks.written_bytes));
    }
    figures
}

#[test]
fn no_record_costs_more_than_it_did() {
    let measured = measured();
    if std::env::var_os("LOCKSTEP_WRITE_COSTS").is_some() {
        return Baselines::of(&measured).write(BASELINES);
    }
    let changes = Baselines::read(BASELINES).changes(&measured, 0.02);
    assert!(
        changes.is_empty(),
        "costs changed; LOCKSTEP_WRITE_COSTS=1 writes them down:\n{}",
        changes.join("\n")
    );
}

#[test]
fn the_same_way_costs_the_same_twice() {
    let (first, second) = (measured(), measured());
    assert_eq!(Baselines::of(&first).changes(&second, 0.0), Vec::<String>::new());
}

#[test]
fn a_cost_that_grew_a_way_that_is_new_and_one_that_is_gone_are_told() {
    let figure = |path: &str, value| Figure { path: path.into(), what: "syncs per batch", value };
    let baselines = Baselines::of(&[figure("a", 3.0), figure("b", 1.0)]);
    assert!(baselines.changes(&[figure("a", 3.03), figure("b", 1.0)], 0.02).is_empty(), "within the margin");
    let changes = baselines.changes(&[figure("a", 3.3), figure("c", 1.0)], 0.02);
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert!(changes[0].contains("a: syncs per batch: 3.3, was 3"), "{changes:?}");
    assert!(!baselines.changes(&[figure("a", 2.0), figure("b", 1.0)], 0.02).is_empty(), "better is told too");
}
