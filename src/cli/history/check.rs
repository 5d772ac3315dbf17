//! `lockstep history check`: histories, and the logs that came of them, held against every rule.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use lockstep_checker::{FinalState, Header, History, Verdict, Violation, read_history};
use serde_json::json;

use super::replica_logs::{self, ReplicaLogs};
use crate::cli::brokers::{BrokerArgs, block_on};
use crate::cli::exit::CliError;
use crate::cli::output::Output;

pub(super) const EXAMPLES: &str = "\
Several files are taken for histories of one partition, recorded by several recorders at once or one after the other;
the clocks of their machines must then agree. Every record of the partition must be in one of them.

Examples:
  lockstep history check proof.jsonl
  lockstep history check monday.jsonl tuesday.jsonl --json
  lockstep history check proof.jsonl --alone

Exit codes: 0 every promise was kept, 1 one was broken, 2 wrong usage, 3 kept, but not every replica could be read.";

/// How long a replica may show nothing before it counts as unreadable.
const PATIENCE: Duration = Duration::from_secs(15);

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Recorded histories.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The topic, if it is not the one that was recorded.
    #[arg(long)]
    topic: Option<String>,
    /// The partition, if it is not the one that was recorded.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Ask no broker: hold the history against itself.
    #[arg(long, conflicts_with_all = ["topic", "partition"])]
    alone: bool,
    #[command(flatten)]
    brokers: BrokerArgs,
}

pub(crate) fn run(args: &CheckArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    let mut histories = Histories::read(&args.files)?;
    if let Some(topic) = &args.topic {
        histories.topic.clone_from(topic);
    }
    histories.partition = args.partition.unwrap_or(histories.partition);
    let logs = if args.alone {
        ReplicaLogs { state: FinalState::default(), unread: Vec::new() }
    } else {
        read_logs(&histories, &args.brokers)?
    };
    histories.judge(&logs, output)
}

/// Checks one file against the brokers it was recorded with.
pub(super) fn check_file(
    file: &Path,
    brokers: &BrokerArgs,
    output: &mut Output,
) -> Result<ExitCode, CliError> {
    let histories = Histories::read(&[file.to_owned()])?;
    let logs = read_logs(&histories, brokers)?;
    histories.judge(&logs, output)
}

fn read_logs(histories: &Histories, brokers: &BrokerArgs) -> Result<ReplicaLogs, CliError> {
    block_on(async {
        let client = brokers.connect().await?;
        replica_logs::read(&client, &histories.topic, histories.partition, PATIENCE).await
    })
}

/// Some files as one history.
struct Histories {
    topic: String,
    partition: u32,
    history: History,
    /// Each file's name and the place of its first operation.
    files: Vec<(String, usize)>,
}

impl Histories {
    fn read(files: &[PathBuf]) -> Result<Self, CliError> {
        let mut read = Vec::new();
        for file in files {
            let shown = file.display();
            let failed = |error: &dyn std::error::Error| CliError::Failed(format!("{shown}: {error}"));
            let input = File::open(file).map_err(|error| failed(&error))?;
            let (header, history) = read_history(BufReader::new(input)).map_err(|error| failed(&error))?;
            read.push((shown.to_string(), header, history));
        }
        Self::join(read)
    }

    /// Puts the histories on the clock of the one that began first.
    fn join(read: Vec<(String, Header, History)>) -> Result<Self, CliError> {
        let Some((first, header, _)) = read.iter().min_by_key(|(_, header, _)| header.started_us) else {
            return Err(CliError::Usage("give at least one history".into()));
        };
        let (first, header, started_us) = (first.clone(), header.clone(), header.started_us);
        let mut joined = Self {
            topic: header.topic,
            partition: header.partition,
            history: History::default(),
            files: Vec::new(),
        };
        for (name, header, mut history) in read {
            if (&header.topic, header.partition) != (&joined.topic, joined.partition) {
                return Err(CliError::Usage(format!(
                    "{name} is of {}/{}, and {first} of {}/{}: check them one by one",
                    header.topic, header.partition, joined.topic, joined.partition
                )));
            }
            let later_by = header.started_us - started_us;
            history.operations.iter_mut().for_each(|operation| operation.delay(later_by));
            joined.files.push((name, joined.history.operations.len()));
            joined.history.operations.extend(history.operations);
        }
        Ok(joined)
    }

    /// Says what the checker found.
    fn judge(&self, logs: &ReplicaLogs, output: &mut Output) -> Result<ExitCode, CliError> {
        let verdict = lockstep_checker::check(&self.history, &logs.state);
        let mut answer = self.json(&verdict);
        answer["unread_replicas"] =
            logs.unread.iter().map(|(node, why)| json!({ "node": node, "why": why })).collect();
        output.answer(&answer, || self.text(&verdict))?;
        if !verdict.passed() {
            return Ok(ExitCode::from(1));
        }
        if logs.unread.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let unread: Vec<String> =
            logs.unread.iter().map(|(node, why)| format!("node {node}: {why}")).collect();
        Err(CliError::Partly(format!("not every replica could be read: {}", unread.join("; "))))
    }

    fn json(&self, verdict: &Verdict) -> serde_json::Value {
        let violations = verdict.violations.iter().map(|violation| {
            json!({
                "rule": violation.rule.name(), "lsn": violation.lsn, "message": violation.message,
                "lines": self.lines(violation),
            })
        });
        let counts = verdict.counts.iter().map(|(rule, count)| (rule.name().to_owned(), json!(count)));
        let summary =
            verdict.summary.figures().into_iter().map(|(name, count)| (name.to_owned(), json!(count)));
        json!({
            "topic": self.topic,
            "partition": self.partition,
            "passed": verdict.passed(),
            "violations_total": verdict.violations_total(),
            "violations_by_rule": serde_json::Map::from_iter(counts),
            "violations": violations.collect::<Vec<_>>(),
            "checked": serde_json::Map::from_iter(summary),
        })
    }

    fn text(&self, verdict: &Verdict) -> String {
        let mut lines = Vec::new();
        for violation in &verdict.violations {
            let places = self.lines(violation);
            let places = if places.is_empty() { String::new() } else { format!(" [{}]", places.join(", ")) };
            lines.push(format!("VIOLATION {violation}{places}"));
        }
        let total = verdict.violations_total();
        if total > verdict.violations.len() as u64 {
            let counts: Vec<_> =
                verdict.counts.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
            lines.push(format!("in all: {}", counts.join(", ")));
        }
        let figures: Vec<_> = verdict
            .summary
            .figures()
            .iter()
            .map(|(name, count)| format!("  {count:>12}  {}", name.replace('_', " ")))
            .collect();
        lines.push(format!("{}/{}: checked", self.topic, self.partition));
        lines.extend(figures);
        lines.push(format!("{total} violations"));
        lines.join("\n")
    }

    /// Where the operations of a violation stand: `FILE:LINE`.
    fn lines(&self, violation: &Violation) -> Vec<String> {
        let line = |place: &usize| {
            let (name, first) = self.files.iter().rev().find(|(_, first)| first <= place)?;
            // The header is line 1.
            Some(format!("{name}:{}", place - first + 2))
        };
        violation.operations.iter().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use lockstep_checker::{Append, AppendOutcome, Operation, RecordId, ReplicaLog, Rule};

    use super::*;

    fn recorded(
        name: &str,
        topic: &str,
        started_us: u64,
        client: u64,
        lsn: u64,
    ) -> (String, Header, History) {
        let mut history = History::default();
        let place = history.push(Operation::Append(Append::invoked(client, 1, 1, 10)));
        let outcome = AppendOutcome::Acknowledged { first_lsn: lsn, last_lsn: lsn, duplicate: false };
        history.complete(place, 20, outcome);
        (name.to_owned(), Header::new(topic, 0, started_us), history)
    }

    #[test]
    fn histories_are_put_on_one_clock_and_violations_name_file_and_line() {
        // The second file's batch was complete before the first one's was asked for, and stands behind it.
        let read = vec![recorded("late", "proof", 2_000, 1, 1), recorded("early", "proof", 1_000, 2, 2)];
        let histories = Histories::join(read).unwrap();
        let mut log = ReplicaLog::new(1, 1, 2);
        log.push_batch(1, [RecordId::new(1, 1, 0)]);
        log.push_batch(2, [RecordId::new(2, 1, 0)]);
        let verdict = lockstep_checker::check(&histories.history, &FinalState { replicas: vec![log] });
        assert_eq!(verdict.rules(), [Rule::RealTime]);
        assert_eq!(histories.lines(&verdict.violations[0]), ["late:2", "early:2"]);
    }

    #[test]
    fn histories_of_two_partitions_are_refused_by_name() {
        let read = vec![recorded("a", "proof", 1, 1, 1), recorded("b", "other", 2, 2, 2)];
        let error = Histories::join(read).err().expect("they do not belong together");
        assert!(error.to_string().starts_with("b is of other/0, and a of proof/0"), "{error}");
    }
}
