//! What a log owes its users, each with a name that stays.
//!
//! What holds: a rule's name never changes and never comes to mean something else; reports and planted faults are
//! matched by it.

use std::fmt;

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// One thing that every history of a log must satisfy.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

rules! {
    /// The history can be what happened: nothing completes before it was invoked, and one batch has one length. What
    /// breaks this is the recorder, not the log.
    HistoryConsistent = "history-consistent",
    /// A replica's LSNs run without a gap or repetition from its log start to its commit.
    DenseLsns = "dense-lsns",
    /// What a replica no longer keeps, somebody had allowed it to forget.
    OnlyTrimmedMissing = "only-trimmed-missing",
    /// An acknowledged batch is in the log, unless it was trimmed.
    AcknowledgedKept = "acknowledged-kept",
    /// An acknowledged batch stands at exactly the LSNs that were told.
    AcknowledgedInPlace = "acknowledged-in-place",
    /// All of a batch stands in the log, in one piece and in its own order.
    BatchWhole = "batch-whole",
    /// A batch stands in the log once.
    BatchOnce = "batch-once",
    /// A batch that certainly failed is not in the log.
    FailedAbsent = "failed-absent",
    /// Every record in the log was written by someone.
    NothingInvented = "nothing-invented",
    /// A client's batches stand in the order of their numbers.
    ClientOrder = "client-order",
    /// A batch does not stand before one that was complete before it was invoked, nor is it shown before that.
    RealTime = "real-time",
    /// What a read showed is what the log holds.
    ReadMatchesLog = "read-matches-log",
    /// Whatever was shown or told of an LSN is the same, even of one that no replica keeps any longer.
    OneValuePerLsn = "one-value-per-lsn",
    /// A read shows the records from the LSN asked for on, and leaves none out.
    ReadDense = "read-dense",
    /// A subscription shows what it goes on with right behind what it showed before, through every reconnection.
    SubscriptionUnbroken = "subscription-unbroken",
    /// A confirmed tail is not below what had been acknowledged, shown or confirmed before it was asked for.
    TailNotBehind = "tail-not-behind",
    /// Nothing was shown that was not committed in the end.
    NothingAboveCommit = "nothing-above-commit",
    /// A conditional batch stands at the LSN it asked for.
    ConditionHeld = "condition-held",
    /// An answer "duplicate" tells the LSNs of the original.
    DuplicateOriginal = "duplicate-original",
    /// Replicas hold the same batches, as far as both are committed.
    ReplicasAgree = "replicas-agree",
    /// The high watermark that one process shows never goes back.
    WatermarkForward = "watermark-forward",
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// One place where a rule does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The LSN in question, where there is one.
    pub lsn: Option<u64>,
    /// The operations involved, by their place in the history.
    pub operations: Vec<usize>,
    /// Both sides, for people.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.rule, self.message)
    }
}
