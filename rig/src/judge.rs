//! The verdict on a load: the final log of every replica, held against what the users were told.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lockstep_checker::{FinalState, ReplicaLog, Verdict, check};
use lockstep_client::{Client, ConsumeError, Start};

use crate::command;
use crate::error::RigError;
use crate::load::{Recorder, TOPIC, connect, connect_briefly, ids};
use crate::measure::Table;
use crate::rig::Rig;

/// How long reading one replica may take.
const READ_TIME_MAX: Duration = Duration::from_secs(120);
/// How long a replica may take before it counts as not readable.
const READABLE_TIME_MAX: Duration = Duration::from_secs(10);

/// What was found over many loads.
#[derive(Debug, Default)]
pub struct Findings {
    figures: Vec<(&'static str, u64)>,
    violations: Vec<String>,
    rules: Vec<&'static str>,
    judged: u64,
}

impl Findings {
    /// Adds something that must not be.
    pub fn violation(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("VIOLATION: {what}");
        self.violations.push(what);
    }

    /// How many there are.
    #[must_use]
    pub fn violations(&self) -> usize {
        self.violations.len()
    }

    /// The checker's rules that were broken, by name.
    #[must_use]
    pub fn rules(&self) -> String {
        self.rules.join(", ")
    }

    /// Adds another's.
    pub fn take(&mut self, other: Findings) {
        self.judged += other.judged;
        self.violations.extend(other.violations);
        self.rules.extend(other.rules);
        add(&mut self.figures, other.figures);
    }

    /// Reads the final log of each partition from each of `nodes`, and checks the history against them.
    ///
    /// # Errors
    /// A replica cannot be read.
    pub fn judge(
        &mut self,
        rig: &Rig,
        bootstrap: &str,
        recorder: &Recorder,
        nodes: &[u64],
    ) -> Result<(), RigError> {
        self.judge_each(rig, bootstrap, recorder, |_| nodes.to_vec())
    }

    /// The same, each partition from nodes of its own.
    ///
    /// # Errors
    /// A replica cannot be read.
    pub fn judge_each(
        &mut self,
        rig: &Rig,
        bootstrap: &str,
        recorder: &Recorder,
        nodes: impl Fn(u32) -> Vec<u64>,
    ) -> Result<(), RigError> {
        for partition in recorder.partitions() {
            let nodes = nodes(partition);
            let reading = async {
                let limit = tokio::time::timeout(READ_TIME_MAX, final_state(bootstrap, partition, &nodes));
                limit.await.unwrap_or_else(|_| Err(format!("not done after {READ_TIME_MAX:?}")))
            };
            let unreadable = |said| RigError::Refused { what: "to be read at the end", said };
            let state = rig.runtime.block_on(reading).map_err(unreadable)?;
            self.note(partition, check(&recorder.history(partition), &state));
        }
        Ok(())
    }

    fn note(&mut self, partition: u32, verdict: Verdict) {
        self.judged += 1;
        if verdict.summary.acknowledged_records_found + verdict.summary.acknowledged_trimmed == 0 {
            self.violation(format!(
                "partition {partition}: nothing was acknowledged, so nothing was checked"
            ));
        }
        add(&mut self.figures, verdict.summary.figures());
        self.rules.extend(verdict.rules().into_iter().map(|rule| rule.name()));
        for violation in &verdict.violations {
            self.violation(format!("partition {partition}: {violation}"));
        }
    }

    /// Checks the files of stopped brokers with the broker's own `log verify`.
    pub fn verify_files(&mut self, program: &Path, data: &Path) {
        if let Err(error) = command::run(Command::new(program).args(["log", "verify"]).arg(data)) {
            self.violation(format!("the files of a stopped broker are not sound: {error}"));
        }
    }

    /// Adds lines of what was checked.
    pub fn table(&self, table: &mut Table) {
        table.row("histories judged", self.judged);
        for (name, count) in self.figures.iter().filter(|(_, count)| *count > 0) {
            table.row(format!("  {}", name.replace('_', " ")), count);
        }
        table.row("violations", self.violations.len());
    }
}

fn add(figures: &mut Vec<(&'static str, u64)>, more: Vec<(&'static str, u64)>) {
    for (name, count) in more {
        match figures.iter_mut().find(|(known, _)| *known == name) {
            // The number of replicas does not add up.
            Some((_, sum)) if name == "replicas" => *sum = count.max(*sum),
            Some((_, sum)) => *sum += count,
            None => figures.push((name, count)),
        }
    }
}

/// Whether a replica serves its partition's whole log.
#[must_use]
pub fn is_readable(rig: &Rig, bootstrap: &str, node: u64) -> bool {
    let read = async {
        let client = connect_briefly(bootstrap).await.ok()?;
        replica_log(&client, 0, node).await.ok()
    };
    rig.runtime
        .block_on(async { tokio::time::timeout(READABLE_TIME_MAX, read).await })
        .is_ok_and(|log| log.is_some())
}

async fn final_state(bootstrap: &str, partition: u32, nodes: &[u64]) -> Result<FinalState, String> {
    let client = connect(bootstrap).await.map_err(|error| error.to_string())?;
    let mut state = FinalState::default();
    for node in nodes {
        let log = replica_log(&client, partition, *node).await;
        state.replicas.push(log.map_err(|error| format!("partition {partition} at node {node}: {error}"))?);
    }
    Ok(state)
}

/// All that a replica serves, up to what was committed when this was called.
async fn replica_log(client: &Client, partition: u32, node: u64) -> Result<ReplicaLog, ConsumeError> {
    let read =
        client.consumer(TOPIC).partition(partition).from(Start::Earliest).until_end().only_from_node(node);
    let mut consumer = read.open().await?;
    let mut batches = Vec::new();
    while let Some(batch) = consumer.next_batch().await {
        let batch = batch?;
        batches.push((batch.first_lsn, batch.last_lsn, ids(&batch)));
    }
    let log_start = batches.first().map_or(1, |(first, ..)| *first);
    let commit = batches.last().map_or(0, |(_, last, _)| *last);
    let mut log = ReplicaLog::new(node, log_start, commit);
    for (first_lsn, _, records) in batches {
        let ids =
            records.runs().iter().flat_map(|run| (run.first_lsn..run.end_lsn()).map(|lsn| run.id_at(lsn)));
        log.push_batch(first_lsn, ids.collect::<Vec<_>>());
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_of_nothing_is_a_violation() {
        let mut findings = Findings::default();
        findings.note(0, check(&Default::default(), &FinalState::default()));
        assert_eq!(findings.violations(), 1);
    }

    #[test]
    fn figures_of_several_histories_add_up() {
        let mut figures = vec![("reads", 2), ("replicas", 3)];
        add(&mut figures, vec![("reads", 5), ("replicas", 3), ("tails", 1)]);
        assert_eq!(figures, [("reads", 7), ("replicas", 3), ("tails", 1)]);
    }
}
