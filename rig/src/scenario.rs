//! What is done to brokers. Each scenario says what it does, ends in a table, and counts violations.

pub mod bite;
pub mod bytes;
pub mod inject;
pub mod kill;
pub mod network;
pub mod power;
pub mod restart;

use std::path::PathBuf;
use std::time::Duration;

use crate::error::RigError;
use crate::judge::Findings;
use crate::load::Load;
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
