//! One failing plan made small: parts and settings are taken away while the same rule still does not hold.
//!
//! What holds: what comes out fails by the same rule as what went in, and nothing that this module knows to take away
//! can be taken away from it any more (delta debugging: Zeller, Hildebrandt, 2002).

use crate::plan::{DiskSettings, NetworkSettings, Plan};
use crate::{Options, run_plan};

/// Makes a plan smaller that violates a rule; `told` hears of each success. `None` if the plan violates none.
pub fn shrink(plan: &Plan, mut told: impl FnMut(&Plan)) -> Option<Plan> {
    let rule = run_plan(plan.clone(), &Options::default()).violation?.rule;
    let mut smallest = plan.clone();
    let mut fails = |candidate: &Plan| {
        let same = run_plan(candidate.clone(), &Options::default())
            .violation
            .is_some_and(|found| found.rule == rule);
        if same {
            told(candidate);
        }
        same
    };
    loop {
        let before = smallest.clone();
        shrink_parts(&mut smallest, &mut fails);
        for simpler in SIMPLER {
            let mut candidate = smallest.clone();
            simpler(&mut candidate);
            if candidate != smallest && fails(&candidate) {
                smallest = candidate;
            }
        }
        if smallest == before {
            return Some(smallest);
        }
    }
}

/// Takes away parts, many at a time at first.
fn shrink_parts(smallest: &mut Plan, fails: &mut impl FnMut(&Plan) -> bool) {
    let mut size = smallest.parts.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < smallest.parts.len() {
            let mut candidate = smallest.clone();
            candidate.parts.drain(at..(at + size).min(candidate.parts.len()));
            if fails(&candidate) {
                *smallest = candidate;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
}

/// What else can be made simpler, one thing at a time.
const SIMPLER: &[fn(&mut Plan)] = &[
    |plan| plan.network = NetworkSettings { loss_ppm: 0, ..plan.network.clone() },
    |plan| plan.network = NetworkSettings { repeat_ppm: 0, ..plan.network.clone() },
    |plan| plan.network = NetworkSettings { reorder_ppm: 0, ..plan.network.clone() },
    |plan| plan.network = NetworkSettings { damage_ppm: 0, ..plan.network.clone() },
    |plan| plan.network = NetworkSettings { spike_ppm: 0, ..plan.network.clone() },
    |plan| plan.disk = DiskSettings { spike_ppm: 0, ..plan.disk.clone() },
    |plan| plan.cluster.drift_ppm = 0,
    |plan| plan.cluster.pool_files = 0,
    |plan| plan.cluster.retention_bytes = None,
    |plan| plan.cluster.retention_ms = None,
    |plan| plan.shards = 1,
    |plan| plan.load.random_readers = 0,
    |plan| plan.load.tail_readers = 0,
    |plan| plan.load.readers = 0,
    |plan| plan.load.plain = 0,
    |plan| plan.load.conditional = 0,
    |plan| plan.load.fenced = 0,
    |plan| plan.load.positioned = 0,
    |plan| plan.load.pipelined = 1,
    |plan| plan.load.records = 1,
    |plan| plan.load.padding = 0,
    |plan| plan.safety_ms = plan.parts.iter().map(|part| part.at_ms + part.for_ms + 500).max().unwrap_or(500),
];
