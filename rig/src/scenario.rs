//! What is done to brokers. Each scenario says what it does, ends in a table, and counts violations.

pub mod behind;
pub mod bite;
pub mod bytes;
pub mod failover;
pub mod follower;
pub mod grow;
pub mod inject;
pub mod kill;
pub mod network;
pub mod power;
pub mod restart;
pub mod rolling;
pub mod shards;

use std::path::PathBuf;
use std::time::Duration;

use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{Load, Timing};
use crate::measure::{Table, Times};
use crate::rig::Rig;

/// How long a healthy cluster may take to acknowledge something.
const ACKNOWLEDGE_TIME_MAX: Duration = Duration::from_secs(30);

/// Directories for the brokers of a cluster, in the workspace.
///
/// # Errors
/// They cannot be made.
pub fn roots(rig: &Rig, name: &str, count: u64) -> Result<Vec<PathBuf>, RigError> {
    (1..=count).map(|node| rig.workspace.directory(&format!("{name}/node-{node}"))).collect()
}

/// Waits for the first acknowledgement after the `before`th; how long it took, or a violation.
///
/// # Errors
/// [`RigError::Interrupted`].
pub fn wait_for_acknowledgement(
    rig: &Rig,
    load: &Load,
    before: u64,
    findings: &mut Findings,
) -> Result<(), RigError> {
    if !rig.wait_until(ACKNOWLEDGE_TIME_MAX, || load.acknowledged() > before)? {
        findings.violation(format!("nothing was acknowledged within {ACKNOWLEDGE_TIME_MAX:?}"));
    }
    Ok(())
}

/// The longest time between two acknowledgements that follow each other, of those that overlap `from` to `to`; all in
/// microseconds since the load began.
#[must_use]
pub fn longest_gap(timings: &[Timing], from: u64, to: u64) -> Duration {
    let mut times: Vec<u64> = timings.iter().map(|timing| timing.acknowledged).collect();
    times.sort_unstable();
    // Nothing since the last one is a gap too.
    times.push(to.max(times.last().copied().unwrap_or(0)));
    let overlapping = times.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
    Duration::from_micros(overlapping.map(|pair| pair[1] - pair[0]).max().unwrap_or(0))
}

/// How long the sends took that were due in a time; both ends in microseconds since the load began.
pub fn latencies(timings: &[Timing], from: u64, to: u64, times: &mut Times) {
    for timing in timings.iter().filter(|timing| (from..to).contains(&timing.due)) {
        times.add(Duration::from_micros(timing.acknowledged.saturating_sub(timing.due)));
    }
}

/// Prints what a scenario found.
pub fn conclude(rig: &mut Rig, name: &str, mut table: Table, times: &[(&str, &Times)], findings: &Findings) {
    for (what, times) in times {
        if !times.is_empty() {
            table.row(*what, times.summary());
        }
    }
    findings.table(&mut table);
    println!("\n{name}\n{}", table.show());
    if findings.violations() > 0 {
        rig.workspace.keep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(at: impl IntoIterator<Item = u64>) -> Vec<Timing> {
        at.into_iter().map(|acknowledged| Timing { due: 0, acknowledged }).collect()
    }

    #[test]
    fn a_gap_counts_where_it_overlaps_and_to_the_end_if_nothing_follows() {
        let timings = acknowledged([30, 10, 20, 90, 95, 100]);
        let gap = |from, to| longest_gap(&timings, from, to).as_micros();
        assert_eq!(gap(10, 100), 60);
        assert_eq!(gap(89, 100), 60);
        assert_eq!(gap(91, 100), 5);
        assert_eq!(gap(91, 150), 50);
        assert_eq!(longest_gap(&[], 0, 7).as_micros(), 0);
    }
}
