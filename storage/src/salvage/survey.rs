//! What of a damaged log is intact.

#![allow(clippy::todo, reason = "signatures first: the bodies follow")]

use super::hole::Hole;
use crate::checkpoint::Checkpoint;
use crate::io::Disk;
use crate::log::{LogOptions, Tip};
use crate::reader::ChainedEntry;
use crate::vote::Vote;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Why a directory cannot be surveyed.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The disk did not answer.
    #[error("surveying {directory}: {error}; check the disk and the directory's permissions")]
    Io {
        /// The directory asked for.
        directory: String,
        /// What the disk said.
        error: io::Error,
    },
    /// All files belong to another shard.
    #[error(
        "{directory} holds the log of shard {found}, not of shard {expected}: give each its own directory"
    )]
    Foreign {
        /// The directory asked for.
        directory: String,
        /// The shard asked for.
        expected: u64,
        /// The shard found.
        found: u64,
    },
    /// Something whole that another version of the broker wrote: it is not damage.
    #[error("{file} at byte {position}: {what}")]
    Unknown {
        /// The segment.
        file: String,
        /// Where in it, in bytes.
        position: u64,
        /// What is not known, and what to do.
        what: String,
    },
}

/// What a survey found. It holds positions and checkpoints, no entries.
pub struct Survey {
    disk: Arc<dyn Disk>,
    directory: String,
    options: LogOptions,
    holes: Vec<Hole>,
    vote: Option<Vote>,
    tip: Option<Tip>,
    proven_synced_index: u64,
}

impl Survey {
    /// Reads every frame of the log in `directory` and changes nothing.
    ///
    /// # Errors
    /// [`SurveyError`]; damage is none.
    pub fn take(disk: Arc<dyn Disk>, directory: &str, options: &LogOptions) -> Result<Self, SurveyError> {
        let _ = (disk, directory, options);
        todo!("the scan")
    }

    /// Looks at one segment again, after it was patched.
    ///
    /// # Errors
    /// [`SurveyError`]; the survey is then as before.
    pub fn rescan(&mut self, segment: u64) -> Result<(), SurveyError> {
        let _ = (segment, &self.disk, &self.directory, &self.options);
        todo!("the scan")
    }

    /// Where synced entries are missing, in the order of the log.
    pub fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// The runs of entries that can be read, in order.
    pub fn intact(&self) -> Vec<RangeInclusive<u64>> {
        todo!("the scan")
    }

    /// The last entry of the intact prefix, or its checkpoint's: where the log ends after
    /// [`cut_to_intact`](super::cut_to_intact). `None` if the oldest header is lost.
    pub fn tip(&self) -> Option<Tip> {
        self.tip
    }

    /// The last entry that can be read, anywhere in the log.
    pub fn last_intact_index(&self) -> Option<u64> {
        self.intact().last().map(|run| *run.end())
    }

    /// The oldest checkpoint that can be read.
    pub fn base(&self) -> Option<&Checkpoint> {
        todo!("the scan")
    }

    /// The newest checkpoint that can be read of those at or below `index`: what a lost one is rebuilt from.
    pub fn checkpoint_before(&self, index: u64) -> Option<&Checkpoint> {
        let _ = index;
        todo!("the scan")
    }

    /// The vote, `None` if no copy is whole.
    pub fn vote(&self) -> Option<Vote> {
        self.vote
    }

    /// The highest index that some header proves synced.
    pub fn proven_synced_index(&self) -> u64 {
        self.proven_synced_index
    }

    /// Intact entries from `low` on, below `high`, as many as `max_bytes` of payload allow and at least one; none if
    /// `low` is in a hole, and it ends before the next hole. Every checksum is verified again.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn read(&self, low: u64, high: u64, max_bytes: usize) -> io::Result<Vec<ChainedEntry>> {
        let _ = (low, high, max_bytes);
        todo!("the scan")
    }
}
