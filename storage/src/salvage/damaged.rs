//! Taking segments out of a log that cannot be patched.
//!
//! Invariants: what leaves the log is kept in [`DAMAGED_DIRECTORY`] until the repair is proven, under its own name or,
//! where one of that name is there, with a number behind it. A file is in both directories, or in one of them, and
//! never in neither.

use super::survey::Survey;
use crate::checkpoint::{Checkpoint, MAX_CHECKPOINT_BYTES};
use crate::frame::Nonce;
use crate::group::segment_path;
use crate::io::{Disk, OpenMode, parent, replace_file};
use crate::log::LogOptions;
use crate::segment::{SegmentHeader, file_name, number_of, temporary_name};
use std::io;

/// The subdirectory of a log where segments go that a repair takes out of it.
pub const DAMAGED_DIRECTORY: &str = "damaged";

/// Bytes copied at a time.
const COPY_BYTES: u64 = 1 << 20;

/// Ends the log at [`Survey::tip`]: the segment of the first hole is cut there, a copy of it kept in
/// [`DAMAGED_DIRECTORY`], and later segments move there. Durable when it returns; can be repeated with a new survey.
/// Nothing happens where there is no hole.
///
/// # Errors
/// Whatever the disk says; `InvalidInput` if the survey has no tip.
pub fn cut_to_intact(survey: &Survey) -> io::Result<()> {
    let Some(hole) = survey.holes().first() else { return Ok(()) };
    if survey.tip().is_none() {
        let why = "nothing is left before the first hole: restart the log from a checkpoint";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let aside = Aside::open(&*survey.disk, &survey.directory)?;
    if !hole.header_lost {
        aside.copy(survey, hole.segment)?;
    }
    let last_kept = if hole.header_lost { hole.segment - 1 } else { hole.segment };
    for number in aside.numbers()?.into_iter().rev().filter(|number| *number > last_kept) {
        aside.take(number)?;
    }
    if !hole.header_lost {
        let file = survey.disk.open(&hole.file, OpenMode::ReadWrite)?;
        file.set_len(hole.position)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Begins the log anew behind `checkpoint`, a peer's: all segments move to [`DAMAGED_DIRECTORY`]. Durable when it
/// returns; can be repeated. `nonce` must be fresh and random.
///
/// # Errors
/// Whatever the disk says; `InvalidInput` for a checkpoint above the format's maximum.
pub fn restart_from(
    disk: &dyn Disk,
    directory: &str,
    options: &LogOptions,
    checkpoint: Checkpoint,
    nonce: Nonce,
) -> io::Result<()> {
    if checkpoint.encoded_bytes() > MAX_CHECKPOINT_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the checkpoint is too long: keep fewer producers",
        ));
    }
    let aside = Aside::open(disk, directory)?;
    let numbers = aside.numbers()?;
    let number = numbers.iter().chain(&aside.numbers_taken()?).max().map_or(1, |last| last.saturating_add(1));
    for number in numbers.into_iter().rev() {
        aside.take(number)?;
    }
    let (restart, repaired, shard, predecessor_bytes) = (true, false, options.shard, 0);
    let header = SegmentHeader { restart, repaired, nonce, shard, number, predecessor_bytes, checkpoint };
    let temporary = format!("{directory}/{}", temporary_name(number));
    replace_file(disk, &temporary, &segment_path(directory, number), header.encode())
}

/// Removes what repairs have put aside in the log of `directory`, durably: when the log is whole again, and before
/// its directory is removed.
///
/// # Errors
/// Whatever the disk says; can be repeated.
pub fn discard_damaged(disk: &dyn Disk, directory: &str) -> io::Result<()> {
    let damaged = format!("{directory}/{DAMAGED_DIRECTORY}");
    if !disk.exists(&damaged)? {
        return Ok(());
    }
    for name in disk.list(&damaged)? {
        disk.remove_file(&format!("{damaged}/{name}"))?;
    }
    disk.sync_dir(&damaged)?;
    disk.remove_dir(&damaged)?;
    disk.sync_dir(directory)
}

/// A log's directory, and the one beside its segments where the damaged ones go.
struct Aside<'a> {
    disk: &'a dyn Disk,
    directory: &'a str,
    damaged: String,
}

impl<'a> Aside<'a> {
    fn open(disk: &'a dyn Disk, directory: &'a str) -> io::Result<Self> {
        let damaged = format!("{directory}/{DAMAGED_DIRECTORY}");
        if !disk.exists(&damaged)? {
            disk.create_dir(&damaged)?;
        }
        disk.sync_dir(directory)?;
        disk.sync_dir(parent(directory))?;
        Ok(Self { disk, directory, damaged })
    }

    /// The numbers of the log's segments, oldest first.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let names = self.disk.list(self.directory)?;
        Ok(names.iter().filter_map(|name| number_of(name)).collect())
    }

    /// The numbers of those put aside.
    fn numbers_taken(&self) -> io::Result<Vec<u64>> {
        let names = self.disk.list(&self.damaged)?;
        Ok(names.iter().filter_map(|name| number_of(name)).collect())
    }

    /// Moves a segment out of the log.
    fn take(&self, number: u64) -> io::Result<()> {
        self.disk.rename(&segment_path(self.directory, number), &self.free_path(number)?)?;
        self.disk.sync_dir(&self.damaged)?;
        self.disk.sync_dir(self.directory)
    }

    /// Copies a segment, as far as it can be read.
    fn copy(&self, survey: &Survey, number: u64) -> io::Result<()> {
        let from = survey.open(&segment_path(self.directory, number))?;
        let path = self.free_path(number)?;
        let temporary = format!("{}/copy.new", self.damaged);
        if self.disk.exists(&temporary)? {
            self.disk.remove_file(&temporary)?;
        }
        let to = self.disk.open(&temporary, OpenMode::CreateNew)?;
        let (mut position, length) = (0, from.len()?);
        while position < length {
            let bytes = from.read_at((length - position).min(COPY_BYTES) as usize, position)?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let copied = bytes.len() as u64;
            to.write_vectored_at(&[bytes], position)?;
            position += copied;
        }
        to.sync_all()?;
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir(&self.damaged)
    }

    /// A name for a segment that is put aside.
    fn free_path(&self, number: u64) -> io::Result<String> {
        let plain = format!("{}/{}", self.damaged, file_name(number));
        let (mut path, mut copies) = (plain.clone(), 0);
        while self.disk.exists(&path)? {
            copies += 1;
            path = format!("{plain}.{copies}");
        }
        Ok(path)
    }
}
