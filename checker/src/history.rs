//! What the users of one partition did and were told.
//!
//! What holds: all times are of one monotone clock, in any unit; an operation is invoked before it completes; an
//! operation whose answer never came is [`AppendOutcome::Unknown`], never left out. What is left out would be taken
//! for invented.

use serde::{Deserialize, Serialize};

use crate::Records;

/// Everything that was asked of one partition, and what came back. The order of operations does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The operations. Verdicts name them by their place here.
    pub operations: Vec<Operation>,
}

/// One thing that was asked, or that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A client asked for a batch to be committed.
    Append(Append),
    /// A reader was shown records.
    Read(Read),
    /// Someone asked how far the log goes.
    Tail(Tail),
    /// The log was allowed to forget its beginning.
    Trim(Trim),
    /// A node's process ended, or began.
    Restart(Restart),
}

/// One request to commit a batch. A retry with the same (client, number) is an operation of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Append {
    /// The logical writer.
    pub client: u64,
    /// The batch's number among this client's: 1, 2, 3 …
    pub number: u64,
    /// How many records the batch has.
    pub records: u32,
    /// The LSN that the batch was to begin at, or fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_next_lsn: Option<u64>,
    /// Whether the log owes this batch its place behind the client's lower numbers that have this set as well. Not so
    /// for a client that gives a batch up while it may still arrive, and goes on.
    pub in_order: bool,
    /// When it was asked for.
    pub invoked: u64,
    /// When the answer came. Of no meaning while the outcome is unknown.
    pub completed: u64,
    /// What the answer was.
    pub outcome: AppendOutcome,
}

/// What a client knows of a batch it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AppendOutcome {
    /// It is committed.
    Acknowledged {
        /// The first record's LSN.
        first_lsn: u64,
        /// The last record's LSN.
        last_lsn: u64,
        /// The answer said that the batch had been there already.
        duplicate: bool,
    },
    /// It is not in the log, and never will be.
    CertainlyFailed,
    /// No answer, or one that leaves it open.
    Unknown,
}

/// One answer with records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Who read.
    pub reader: u64,
    /// The node that answered.
    pub node: u64,
    /// The first LSN that was asked for.
    pub from_lsn: u64,
    /// When it was asked for.
    pub invoked: u64,
    /// When the answer came.
    pub completed: u64,
    /// The high watermark the answer spoke of, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_watermark: Option<u64>,
    /// What was shown.
    pub records: Records,
    /// Whether it goes on where the reader's last one ended, as the pushes of a subscription do, by whichever node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
}

/// One answer to how far the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Who asked.
    pub reader: u64,
    /// The node that answered; 0 if that is not known, as where any leader may have confirmed it.
    pub node: u64,
    /// The answer promised to include all that was committed when it was asked for. A follower's own view does not.
    pub confirmed: bool,
    /// When it was asked for.
    pub invoked: u64,
    /// When the answer came.
    pub completed: u64,
    /// The last committed LSN, 0 for none.
    pub high_watermark: u64,
}

/// Leave to forget the records below an LSN: a trim that was accepted or may have been, or a retention setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trim {
    /// When it was asked for.
    pub invoked: u64,
    /// Everything below this may be gone. `u64::MAX` under retention by size or age, which may take anything.
    pub before_lsn: u64,
}

/// A moment at which a node's process ended or began, or may have. What was seen before and after it is not compared
/// where only one process owes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// The node.
    pub node: u64,
    /// When.
    pub at: u64,
}

impl History {
    /// Adds an operation and returns its place.
    pub fn push(&mut self, operation: Operation) -> usize {
        self.operations.push(operation);
        self.operations.len() - 1
    }

    /// Says how the append at `place` came out. An append is pushed as [`AppendOutcome::Unknown`] when it is invoked,
    /// and stays so if nobody calls this.
    ///
    /// # Panics
    /// If no append stands at `place`.
    pub fn complete(&mut self, place: usize, at: u64, outcome: AppendOutcome) {
        let Some(Operation::Append(append)) = self.operations.get_mut(place) else {
            panic!("operation {place} is not an append");
        };
        append.completed = at;
        append.outcome = outcome;
    }
}

impl Operation {
    /// Moves it to a clock that read `by` when its own read 0.
    pub fn delay(&mut self, by: u64) {
        let times: [&mut u64; 2] = match self {
            Self::Append(append) => [&mut append.invoked, &mut append.completed],
            Self::Read(read) => [&mut read.invoked, &mut read.completed],
            Self::Tail(tail) => [&mut tail.invoked, &mut tail.completed],
            Self::Trim(trim) => [&mut trim.invoked, &mut 0],
            Self::Restart(restart) => [&mut restart.at, &mut 0],
        };
        times.into_iter().for_each(|time| *time = time.saturating_add(by));
    }
}

impl Append {
    /// An append that was just invoked: in order, without a condition, its outcome unknown so far.
    #[must_use]
    pub const fn invoked(client: u64, number: u64, records: u32, invoked: u64) -> Self {
        Self {
            client,
            number,
            records,
            expected_next_lsn: None,
            in_order: true,
            invoked,
            completed: invoked,
            outcome: AppendOutcome::Unknown,
        }
    }
}
