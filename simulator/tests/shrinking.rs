//! A failing plan gets smaller, still fails by the same rule, and does the same again from its text.

use lockstep_planted::{Bug, activate};
use lockstep_simulator::kinds::{FaultKind, Target};
use lockstep_simulator::plan::Part;
use lockstep_simulator::shrink::shrink;
use lockstep_simulator::{Options, Plan, run_plan};

/// A short plan in which much happens, and one thing that matters: a sync that fails.
fn plan() -> Plan {
    let mut plan = Plan { safety_ms: 1_500, nodes: 3, replicas: 3, shards: 2, ..Plan::draw(4) };
    let kinds = [
        FaultKind::Disconnect,
        FaultKind::Transfer,
        FaultKind::Fence,
        FaultKind::LostSync { after: 1 },
        FaultKind::Disconnect,
        FaultKind::Trim { keep: 10 },
        FaultKind::Fence,
        FaultKind::Transfer,
    ];
    plan.parts = (0..)
        .zip(kinds)
        .map(|(number, kind)| Part {
            at_ms: 400 + 100 * number,
            for_ms: 0,
            kind,
            target: Target::Node(1 + number % 3),
        })
        .collect();
    plan
}

#[test]
fn a_failing_plan_shrinks_to_what_it_needs_and_its_text_fails_alike() {
    activate(Some(Bug::IgnoreFailedGroup));
    let options = Options::default();
    let whole = run_plan(plan(), &options).violation.expect("a failed sync that nobody minds is seen");
    let mut successes = 0;
    let small = shrink(&plan(), |_| successes += 1).expect("it fails");
    assert!(successes > 0);
    let kinds: Vec<FaultKind> = small.parts.iter().map(|part| part.kind).collect();
    assert_eq!(kinds, [FaultKind::LostSync { after: 1 }], "all else goes");
    assert_eq!(small.shards, 1);
    let text = serde_json::to_string(&small).expect("a plan is plain data");
    let again = serde_json::from_str::<Plan>(&text).expect("its own text");
    let (one, other) = (run_plan(small, &options), run_plan(again, &options));
    assert_eq!(one.violation.as_ref().map(|violation| violation.rule), Some(whole.rule));
    assert_eq!((one.violation, one.trace_hash), (other.violation, other.trace_hash));
    activate(None);
    assert!(shrink(&plan(), |_| ()).is_none(), "without the bug there is nothing to shrink");
}
