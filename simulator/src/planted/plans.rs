//! Plans for the search: a campaign's, made small and full of faults, and one that takes aim.

use lockstep::random::Random;
use lockstep_planted::Bug;

use crate::Plan;
use crate::brokers::draw_brokers;
use crate::kinds::{FaultKind, Target};
use crate::plan::Part;

/// Runs are this much shorter than a campaign's: most bugs show within a second.
const SHORTER: u64 = 4;
/// Plans whose faults are added to each.
const FURTHER_PLANS: u64 = 2;
/// Nodes in each.
const NODES: u64 = 3;
/// A writer's pause, at least, in microseconds: faults find bugs, not batches.
const PAUSE_US_MIN: u64 = 4_000;

/// Bugs that only clusters of brokers can show.
const OF_BROKERS: [Bug; 11] = [
    Bug::FinishMoveTooEarly,
    Bug::FinishMoveUnconfirmed,
    Bug::FinishAnotherMove,
    Bug::ForgetMembershipOfMove,
    Bug::BeginMoveOverMove,
    Bug::DropWhileMoving,
    Bug::BeginWithTodaysHosts,
    Bug::PlaceOnDraining,
    Bug::KeepMetadataOnDraining,
    Bug::RemoveBrokerInUse,
    Bug::GiveBrokerIdTwice,
];

/// The plan of a seed in the search for a bug; without one, that of most bugs.
pub fn plan_for(bug: Option<Bug>, seed: u64) -> Plan {
    match bug {
        Some(Bug::CompareOnlyIndexInVotes) => lonely_leaders(seed),
        Some(Bug::ApplyMembershipAtAppend | Bug::LeadOnAfterRemoval) => restless(seed),
        Some(Bug::ForgetMark | Bug::ReplaceSegmentBeforeSync | Bug::IgnoreScrub | Bug::ForgetLostVote) => {
            short_plan(seed)
        }
        Some(bug) if OF_BROKERS.contains(&bug) => busy_brokers(seed),
        _ => undamaged(seed),
    }
}

/// Disks keep what they held for long, and nodes crash half as often: what is under repair or down shows no other bug.
fn undamaged(seed: u64) -> Plan {
    let mut plan = short_plan(seed);
    plan.parts.retain(|part| !part.kind.is_damage());
    let mut crashes = 0;
    plan.parts.retain(|part| match part.kind {
        FaultKind::Kill | FaultKind::PowerCut | FaultKind::PowerCutAtIo { .. } => {
            crashes += 1;
            crashes % 2 == 0
        }
        _ => true,
    });
    plan
}

/// A plan as a campaign would draw it, for a cluster that is small and soon done.
fn short_plan(seed: u64) -> Plan {
    let mut plan = Plan::draw_plain(seed);
    for other in 1..=FURTHER_PLANS {
        let further = Plan::draw_plain(seed + (other << 32));
        plan.parts.extend(further.parts.into_iter().filter(|part| part.at_ms < plan.safety_ms));
    }
    plan.parts.retain(|part| !matches!(part.kind, FaultKind::Move { .. }));
    plan.parts.sort_by_key(|part| part.at_ms);
    let safety_ms = plan.safety_ms / SHORTER;
    for part in &mut plan.parts {
        part.at_ms = 300 + (part.at_ms - 300) * (safety_ms - 400) / plan.safety_ms;
        part.for_ms /= SHORTER;
        if let Target::Node(node) = &mut part.target {
            *node = 1 + (*node - 1) % NODES;
        }
    }
    plan.safety_ms = safety_ms;
    (plan.nodes, plan.replicas) = (NODES, NODES);
    plan.shards = plan.shards.min(2);
    plan.load.pipelined = plan.load.pipelined.min(2);
    plan.load.fenced = (seed % 2) as u32;
    plan.load.positioned = 1 - plan.load.fenced;
    plan.load.pause_us = plan.load.pause_us.max(PAUSE_US_MIN);
    plan
}

/// Leaders that gather a tail nobody else has, and come back when the next leader, with a few entries that are
/// committed, has just died: the vote is between the longer log and the newer.
fn lonely_leaders(seed: u64) -> Plan {
    const ROUNDS: u64 = 4;
    const ROUND_MS: u64 = 1_000;
    let (mut plan, mut random) = (short_plan(seed), Random::new(seed));
    plan.shards = 1;
    (plan.cluster.tick_ms, plan.cluster.election_ticks) = (10, 10);
    (plan.load.pipelined, plan.load.in_flight, plan.load.pause_us) = (3, 5, 1_000);
    plan.safety_ms = (ROUNDS + 1) * ROUND_MS;
    let target = Target::Leader(0);
    let round = |number: u64| {
        let (at_ms, alone_ms) = (400 + number * ROUND_MS, 120 + random.below(200));
        let killed_ms = at_ms + alone_ms - random.below(40);
        [
            Part { at_ms, for_ms: alone_ms, kind: FaultKind::CutOff, target },
            Part { at_ms: killed_ms, for_ms: 400, kind: FaultKind::Kill, target },
        ]
    };
    plan.parts = (0..ROUNDS).flat_map(round).collect();
    plan
}

/// Replicas that are always on their way to other nodes.
fn restless(seed: u64) -> Plan {
    const MOVE_EVERY_MS: u64 = 400;
    let mut plan = short_plan(seed);
    (plan.nodes, plan.replicas, plan.shards) = (5, 3, 1);
    plan.safety_ms = plan.safety_ms.max(2_000);
    let sizes = [3, 3, 1, 3];
    let moves = (1..plan.safety_ms / MOVE_EVERY_MS).zip(sizes.into_iter().cycle());
    plan.parts.extend(moves.map(|(number, size)| Part {
        at_ms: number * MOVE_EVERY_MS,
        for_ms: 0,
        kind: FaultKind::Move { size },
        target: Target::Leader(0),
    }));
    plan.parts.sort_by_key(|part| part.at_ms);
    plan
}

/// Brokers that come and go, replicas that are always on their way, and people who change their minds.
fn busy_brokers(seed: u64) -> Plan {
    const EVERY_MS: u64 = 120;
    let mut plan = undamaged(seed);
    plan.safety_ms = 2_500;
    draw_brokers(&mut plan);
    let kinds = [
        FaultKind::Join,
        FaultKind::MoveTo,
        FaultKind::Join,
        FaultKind::Decommission,
        FaultKind::CancelMoves,
        FaultKind::MoveTo,
        FaultKind::MetadataLeaderCrash,
        FaultKind::MoveTo,
        FaultKind::CancelMoves,
        FaultKind::MoveTo,
        FaultKind::CancelMoves,
    ];
    for (number, kind) in (4..plan.safety_ms / EVERY_MS).zip(kinds.into_iter().cycle()) {
        let target = match kind {
            FaultKind::Decommission => Target::Node(1 + number % 3),
            _ => Target::Leader(0),
        };
        plan.nodes += u64::from(kind == FaultKind::Join);
        plan.parts.push(Part { at_ms: number * EVERY_MS, for_ms: 0, kind, target });
    }
    plan.parts.sort_by_key(|part| part.at_ms);
    plan
}
