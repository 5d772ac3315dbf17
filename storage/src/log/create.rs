//! Creating a log: once, durably, and never over another.
//!
//! Invariant: a log is built under another name and renamed into place when it is complete and synced. So a
//! directory of the right name always held a whole log, and what is missing in it is damage.

use super::{CreateError, Log, LogOptions, check_length};
use crate::checkpoint::Checkpoint;
use crate::frame::Nonce;
use crate::group::segment_path;
use crate::io::{Disk, OpenMode, parent};
use crate::segment::SegmentHeader;
use crate::vote::{VOTE_FILE_NAME, Vote, VoteFile};
use lockstep_planted::{self as planted, Bug};
use std::io;
use std::sync::Arc;

/// Appended to a directory's name until the log in it is complete.
const UNFINISHED: &str = ".creating";

impl Log {
    /// Creates a log that begins after `genesis`, in term 0.
    ///
    /// # Errors
    /// [`CreateError::Exists`] rather than touch an existing directory.
    pub fn create(
        disk: Arc<dyn Disk>,
        directory: &str,
        options: &LogOptions,
        genesis: Checkpoint,
        nonce: Nonce,
    ) -> Result<(), CreateError> {
        Self::create_in_term(disk, directory, options, genesis, nonce, 0)
    }

    /// Creates a log that begins after `genesis`, in a directory that does not exist yet but whose parent does, with a
    /// vote for nobody in `term`.
    /// Durable when it returns; an unfinished attempt of the past is removed.
    ///
    /// # Errors
    /// [`CreateError::Exists`] rather than touch an existing directory.
    pub fn create_in_term(
        disk: Arc<dyn Disk>,
        directory: &str,
        options: &LogOptions,
        genesis: Checkpoint,
        nonce: Nonce,
        term: u64,
    ) -> Result<(), CreateError> {
        check_length(&genesis)?;
        let header = SegmentHeader {
            restart: false,
            repaired: false,
            nonce,
            shard: options.shard,
            number: 1,
            predecessor_bytes: 0,
            checkpoint: genesis,
        };
        let directory_owned = || directory.to_owned();
        match disk.exists(directory) {
            Ok(true) => Err(CreateError::Exists { directory: directory_owned() }),
            Ok(false) => build(&*disk, directory, &header, term)
                .map_err(|error| CreateError::Io { directory: directory_owned(), error }),
            Err(error) => Err(CreateError::Io { directory: directory_owned(), error }),
        }
    }
}

fn build(disk: &dyn Disk, directory: &str, header: &SegmentHeader, term: u64) -> io::Result<()> {
    let unfinished = format!("{directory}{UNFINISHED}");
    if disk.exists(&unfinished)? {
        for name in disk.list(&unfinished)? {
            disk.remove_file(&format!("{unfinished}/{name}"))?;
        }
        disk.remove_dir(&unfinished)?;
    }
    disk.create_dir(&unfinished)?;
    let mut votes = VoteFile::create(disk, &format!("{unfinished}/{VOTE_FILE_NAME}"), header.shard)?;
    if term > 0 {
        votes.write(disk, Vote { term, ..Vote::default() })?;
    }
    let file = disk.open(&segment_path(&unfinished, header.number), OpenMode::CreateNew)?;
    file.write_vectored_at(&[header.encode()], 0)?;
    file.sync_all()?;
    disk.sync_dir(&unfinished)?;
    disk.rename(&unfinished, directory)?;
    if planted::is_active(Bug::ForgetDirectorySyncAfterCreation) {
        return Ok(());
    }
    disk.sync_dir(parent(directory))
}
