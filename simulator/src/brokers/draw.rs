//! Plans of clusters of brokers: which seeds have one, and what happens in it.

use lockstep::random::Random;

use crate::kinds::{FaultKind, Target};
use crate::plan::{Part, Plan, chance};

/// One seed in so many is of brokers.
const ONE_IN: u64 = 4;
/// Brokers that the cluster begins with.
const FOUNDERS: u64 = 3;

/// Whether the plan of a seed is one of brokers.
pub(crate) fn of_brokers(seed: u64) -> bool {
    chance(&mut Random::new(seed ^ 0xB20C_E250_51D0_0001), 1, ONE_IN)
}

/// Makes the plan one of brokers: some found the cluster, others join, and what happens to brokers joins the faults. Disks
/// keep what they held for long.
pub(crate) fn draw_brokers(plan: &mut Plan) {
    let mut random = Random::new(plan.seed ^ 0xB20C_E250_51D0_0002);
    let random = &mut random;
    plan.brokers = true;
    plan.replicas = FOUNDERS;
    plan.parts.retain(|part| {
        let other = matches!(part.kind, FaultKind::Move { .. } | FaultKind::Retention { .. });
        !other && !part.kind.is_damage()
    });
    for kind in FaultKind::OF_BROKERS.iter().copied() {
        if !chance(random, kind.share(), 100) {
            continue;
        }
        for _ in 0..1 + random.below(kind.times_max()) {
            plan.parts.push(Part {
                at_ms: 300 + random.below(plan.safety_ms - 500),
                for_ms: kind.draw_duration_ms(random),
                kind,
                target: Target::Leader(random.below(plan.shards.into()) as u32),
            });
        }
    }
    plan.parts.sort_by_key(|part| part.at_ms);
    let joins = plan.parts.iter().filter(|part| part.kind.brings_a_broker()).count() as u64;
    plan.nodes = FOUNDERS + joins;
    for part in &mut plan.parts {
        if let Target::Node(node) = &mut part.target {
            *node = 1 + random.below(plan.nodes);
        }
        if part.kind.is_of_brokers() && random.below(2) == 0 {
            part.target = Target::Node(1 + random.below(plan.nodes));
        }
    }
}
