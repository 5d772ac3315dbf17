//! What was known before a question was asked, held against the answer.
//!
//! What holds: "before" means completed at an earlier time than the other was invoked. What overlaps is never compared.

use std::collections::BTreeMap;

use crate::{AppendOutcome, History, Operation, Rule, Verdict};

/// An LSN that was known to be committed at a time, or was told in answer to a question of that time.
#[derive(Debug, Clone, Copy)]
struct Sight {
    at: u64,
    lsn: u64,
    operation: usize,
}

/// Things known, and answers that must not fall behind them.
#[derive(Debug, Default)]
struct Sights {
    known: Vec<Sight>,
    answers: Vec<Sight>,
}

pub(super) fn check(history: &History, verdict: &mut Verdict) {
    check_tails(history, verdict);
    check_watermarks(history, verdict);
}

fn check_tails(history: &History, verdict: &mut Verdict) {
    let mut sights = Sights::default();
    for (operation, seen) in history.operations.iter().enumerate() {
        match seen {
            Operation::Append(append) => {
                if let AppendOutcome::Acknowledged { last_lsn, .. } = append.outcome {
                    sights.known.push(Sight { at: append.completed, lsn: last_lsn, operation });
                }
            }
            Operation::Read(read) => {
                let lsn = read.records.last_lsn().max(read.high_watermark);
                sights.known.extend(lsn.map(|lsn| Sight { at: read.completed, lsn, operation }));
            }
            Operation::Tail(tail) => {
                sights.known.push(Sight { at: tail.completed, lsn: tail.high_watermark, operation });
                if tail.confirmed {
                    sights.answers.push(Sight { at: tail.invoked, lsn: tail.high_watermark, operation });
                }
            }
            Operation::Trim(_) | Operation::Restart(_) => {}
        }
    }
    sights.fallen_behind(|known, answer| {
        let (lsn, below) = (known.lsn, answer.lsn);
        verdict.violated(Rule::TailNotBehind, lsn, [known.operation, answer.operation], || {
            format!(
                "a confirmed tail asked for at {} was {below}, but LSN {lsn} was known to be committed at {}",
                answer.at, known.at
            )
        });
    });
}

fn check_watermarks(history: &History, verdict: &mut Verdict) {
    let lives = Lives::of(history);
    let mut by_life: BTreeMap<(u64, usize), Sights> = BTreeMap::new();
    for (operation, seen) in history.operations.iter().enumerate() {
        let (node, invoked, completed, known, answer) = match seen {
            Operation::Read(read) => {
                let known = read.records.last_lsn().max(read.high_watermark);
                (read.node, read.invoked, read.completed, known, read.high_watermark)
            }
            Operation::Tail(tail) if tail.node != 0 => {
                let lsn = Some(tail.high_watermark);
                (tail.node, tail.invoked, tail.completed, lsn, lsn)
            }
            _ => continue,
        };
        let Some(life) = lives.within_one(node, invoked, completed) else { continue };
        let sights = by_life.entry((node, life)).or_default();
        sights.known.extend(known.map(|lsn| Sight { at: completed, lsn, operation }));
        sights.answers.extend(answer.map(|lsn| Sight { at: invoked, lsn, operation }));
    }
    for ((node, _), sights) in by_life {
        verdict.summary.watermarks_compared += sights.answers.len() as u64;
        sights.fallen_behind(|known, answer| {
            let (lsn, below) = (known.lsn, answer.lsn);
            verdict.violated(Rule::WatermarkForward, lsn, [known.operation, answer.operation], || {
                format!(
                    "node {node} showed LSN {lsn} as committed at {}, and high watermark {below} when asked at {}, in the \
                     same run of its process",
                    known.at, answer.at
                )
            });
        });
    }
}

impl Sights {
    /// Finds the answers below the greatest LSN known when they were asked for.
    fn fallen_behind(mut self, mut report: impl FnMut(Sight, Sight)) {
        if self.answers.is_empty() {
            return;
        }
        self.known.sort_by_key(|sight| sight.at);
        self.answers.sort_by_key(|sight| sight.at);
        let mut known = self.known.into_iter().peekable();
        let mut greatest: Option<Sight> = None;
        for answer in self.answers {
            while let Some(sight) = known.next_if(|sight| sight.at < answer.at) {
                greatest = greatest.filter(|greatest| greatest.lsn >= sight.lsn).or(Some(sight));
            }
            if let Some(greatest) = greatest.filter(|greatest| greatest.lsn > answer.lsn) {
                report(greatest, answer);
            }
        }
    }
}

/// When the processes of each node ended or began.
struct Lives {
    by_node: BTreeMap<u64, Vec<u64>>,
}

impl Lives {
    fn of(history: &History) -> Self {
        let mut by_node: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for operation in &history.operations {
            if let Operation::Restart(restart) = operation {
                by_node.entry(restart.node).or_default().push(restart.at);
            }
        }
        by_node.values_mut().for_each(|times| times.sort_unstable());
        Self { by_node }
    }

    /// Which run of the node's process this happened in, if it was one.
    fn within_one(&self, node: u64, invoked: u64, completed: u64) -> Option<usize> {
        let Some(times) = self.by_node.get(&node) else { return Some(0) };
        let life = times.partition_point(|at| *at <= invoked);
        (life == times.partition_point(|at| *at < completed)).then_some(life)
    }
}
