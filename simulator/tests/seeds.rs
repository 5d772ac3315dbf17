//! Fixed seeds: the cluster keeps its promises through them, and each run is the same every time.

use lockstep_simulator::{Options, Plan, run, run_plan};

/// Short runs: what a campaign does with long ones.
fn short(seed: u64) -> Plan {
    Plan { safety_ms: 2_500, ..Plan::draw(seed) }
}

#[test]
fn nothing_is_lost_in_the_fixed_seeds() {
    let mut crashes = 0;
    for seed in 0..10 {
        let outcome = run_plan(short(seed), &Options::default());
        assert_eq!(outcome.violation, None, "seed {seed}");
        assert!(outcome.stats.acknowledged > 100, "seed {seed} acknowledged {}", outcome.stats.acknowledged);
        crashes += outcome.stats.crashes();
    }
    assert!(crashes > 10, "{crashes} crashes");
}

/// `LOCKSTEP_SEED` says where they begin, `LOCKSTEP_RUNS` how many there are.
#[test]
fn nothing_is_lost_in_seeds_that_nobody_chose() {
    let number =
        |name, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (from, runs): (u64, u64) = (number("LOCKSTEP_SEED", 1_000), number("LOCKSTEP_RUNS", 3));
    for seed in from..from + runs {
        let outcome = run_plan(short(seed), &Options::default());
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
    println!("seeds {from} to {}: no violation", from + runs - 1);
}

#[test]
fn the_same_seed_gives_the_same_run_bit_for_bit() {
    for seed in 100..105 {
        let (one, other) =
            (run_plan(short(seed), &Options::default()), run_plan(short(seed), &Options { trace: true }));
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
        assert_eq!(one.stats, other.stats, "seed {seed}");
        assert!(!other.timeline.is_empty() && one.timeline.is_empty());
    }
}

/// Of the seeds from one on, so many whose cluster is one of brokers.
fn of_brokers(from: u64, count: usize) -> impl Iterator<Item = u64> {
    (from..).filter(|seed| Plan::draw(*seed).brokers).take(count)
}

#[test]
fn brokers_that_come_and_go_lose_nothing_and_settle() {
    let mut stats = lockstep_simulator::Stats::default();
    for seed in of_brokers(0, 4) {
        let outcome = run_plan(short(seed), &Options::default());
        assert_eq!(outcome.violation, None, "seed {seed}");
        stats.add(&outcome.stats);
    }
    for what in ["broker-registered", "broker-joined", "move-begun", "move-finished"] {
        assert!(stats.faults.contains_key(what), "{what}: {:?}", stats.faults);
    }
}

#[test]
fn a_cluster_of_brokers_too_runs_the_same_bit_for_bit() {
    for seed in of_brokers(100, 2) {
        let (one, other) =
            (run_plan(short(seed), &Options::default()), run_plan(short(seed), &Options { trace: true }));
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
        assert_eq!(one.stats, other.stats, "seed {seed}");
    }
}

#[test]
fn another_seed_gives_another_run() {
    let hash = |seed| run_plan(short(seed), &Options::default()).trace_hash;
    assert_ne!(hash(1), hash(2));
}

#[test]
fn disks_that_lie_about_syncs_are_caught() {
    let caught = (0..5).filter_map(|seed| {
        let mut plan = Plan::draw(seed);
        plan.disk.lie = true;
        run_plan(plan, &Options::default()).violation
    });
    let rules: Vec<&str> = caught.map(|violation| violation.rule).collect();
    assert_eq!(rules.len(), 5, "{rules:?}");
    assert!(rules.iter().all(|rule| *rule == "group-synced"), "{rules:?}");
}

#[test]
fn a_seed_runs_its_own_plan() {
    let options = Options::default();
    assert_eq!(run(3, &options).trace_hash, run_plan(Plan::draw(3), &options).trace_hash);
}
