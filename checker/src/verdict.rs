//! What a check found, and what it looked at.
//!
//! What holds: a verdict counts everything it compared, so that a check of nothing is seen to be one. Violations of one
//! rule never crowd out those of another.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Rule, Violation};

/// How many violations of each rule are kept with their words; all are counted.
pub const VIOLATIONS_KEPT_PER_RULE: usize = 10;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "a verdict that nobody looks at proves nothing"]
pub struct Verdict {
    /// What was looked at.
    pub summary: Summary,
    /// The first violations of each rule, in the order of the rules.
    pub violations: Vec<Violation>,
    /// How many violations there were in all, by rule.
    pub counts: BTreeMap<Rule, u64>,
}

macro_rules! summary {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// How much of everything was checked.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Summary {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl Summary {
            /// Each figure with its name.
            #[must_use]
            pub fn figures(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field)),+]
            }
        }
    };
}

summary! {
    /// Replicas whose logs were read.
    replicas,
    /// Clients that appended.
    clients,
    /// Appends asked for, retries included.
    appends,
    /// Appends that were acknowledged.
    acknowledged,
    /// Records of acknowledged batches found whole where they were told to be.
    acknowledged_records_found,
    /// Acknowledged batches known only by what was told, because the log starts behind them.
    acknowledged_trimmed,
    /// Appends that certainly failed.
    failed,
    /// Appends without a certain answer.
    unknown,
    /// Batches without any certain answer that are in the log.
    unknown_in_log,
    /// Appends with an expected LSN.
    conditional,
    /// Acknowledgements that said "duplicate".
    duplicates,
    /// Batches in the longest log.
    log_batches,
    /// Records in the longest log.
    log_records,
    /// Records that other replicas hold and that were compared with the longest log.
    replica_records_compared,
    /// Records below the log start that are still known from acknowledgements, reads or other replicas.
    trimmed_records_known,
    /// Reads.
    reads,
    /// Records that reads showed and that were compared.
    read_records_compared,
    /// Reads that were held against the one that they continue.
    reads_continued,
    /// Tail reads.
    tails,
    /// Confirmed tail reads, held against what was known before them.
    tails_confirmed,
    /// High watermarks held against earlier ones of the same process.
    watermarks_compared,
    /// Trims.
    trims,
    /// Ends or beginnings of processes.
    restarts,
}

impl Verdict {
    /// Whether every rule held. Look at the summary too: nothing breaks no rule.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.counts.is_empty()
    }

    /// The rules that did not hold.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        self.counts.keys().copied().collect()
    }

    /// All violations, kept or only counted.
    #[must_use]
    pub fn violations_total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The summary if every rule held, else the violations that were kept.
    ///
    /// # Errors
    /// The violations.
    pub fn into_result(self) -> Result<Summary, Vec<Violation>> {
        if self.passed() { Ok(self.summary) } else { Err(self.violations) }
    }

    pub(crate) fn violated(
        &mut self,
        rule: Rule,
        lsn: impl Into<Option<u64>>,
        operations: impl IntoIterator<Item = usize>,
        message: impl FnOnce() -> String,
    ) {
        let count = self.counts.entry(rule).or_default();
        *count += 1;
        if *count <= VIOLATIONS_KEPT_PER_RULE as u64 {
            let operations = operations.into_iter().collect();
            self.violations.push(Violation { rule, lsn: lsn.into(), operations, message: message() });
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            writeln!(formatter, "{violation}")?;
        }
        let figures = self.summary.figures();
        let figures: Vec<String> = figures.iter().map(|(name, count)| format!("{name} {count}")).collect();
        write!(formatter, "{} violations; {}", self.violations_total(), figures.join(", "))
    }
}
