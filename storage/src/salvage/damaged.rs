//! What leaves a damaged log is kept in a directory of its own until the repair is proven.

#![allow(clippy::todo, reason = "signatures first: the bodies follow")]

use super::survey::Survey;
use crate::checkpoint::Checkpoint;
use crate::frame::Nonce;
use crate::io::Disk;
use crate::log::LogOptions;
use std::io;

/// The subdirectory of a log where segments go that a repair takes out of it.
pub const DAMAGED_DIRECTORY: &str = "damaged";

/// Ends the log at [`Survey::tip`]: later segments move to [`DAMAGED_DIRECTORY`], and the one that the tip is in is
/// written anew without what lies behind it, a copy of the old one kept there too. Durable when it returns; can be
/// repeated with a new survey. Nothing happens where there is no hole. `nonce` must be fresh and random.
///
/// # Errors
/// Whatever the disk says, and `InvalidInput` if the survey has no tip.
pub fn cut_to_intact(survey: &Survey, nonce: Nonce) -> io::Result<()> {
    let _ = (survey, nonce);
    todo!("the cut")
}

/// Begins the log anew behind `checkpoint`, a peer's: all segments move to [`DAMAGED_DIRECTORY`]. Durable when it
/// returns; can be repeated. `nonce` must be fresh and random.
///
/// # Errors
/// Whatever the disk says, and `InvalidInput` for a checkpoint above the format's maximum.
pub fn restart_from(
    disk: &dyn Disk,
    directory: &str,
    options: &LogOptions,
    checkpoint: Checkpoint,
    nonce: Nonce,
) -> io::Result<()> {
    let _ = (disk, directory, options, checkpoint, nonce);
    todo!("the restart")
}

/// Removes what repairs have put aside in the log of `directory`, durably. To be called when the log is whole again,
/// and before its directory is removed.
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
