//! Cutting frames off the end of a segment file that may vouch for each other.
//!
//! What holds: a power cut at any moment leaves a file that reads as a prefix of the old one, no shorter than what was
//! to be kept, and no header behind that prefix says that more had been synced.
//!
//! Making a file shorter is not one step on disk. The file system zeroes the rest of the new last block, and may make
//! the zeros durable before the new length (seen on ext4). With the old length, whole frames would stand behind the
//! zeros and say truthfully that what is zero now had been synced, and the replica would be taken for damaged:
//!
//! ```text
//!      keep ▼           block ends ▼
//!  ─┬───────┬───────┬───────┬──────┼┬───────┬───────┐
//!   │ 7     │ 8     │ 9     │ 10    │ 11    │ 12    │   12 says "11 is synced"
//!  ─┴───────┴───────┴───────┴──────┼┴───────┴───────┘
//!           └──── zeros at worst ──┘└── still there ┘
//! ```
//!
//! So the file loses its later blocks first, where nothing needs zeroing; then the block's own frames, from behind:
//! at each step only those that vouch for nothing among themselves, since zeros can be torn as well. Each step is
//! synced before the next.
//!
//! If the process alone ends in between, the next one sees a length that no sync covers, and the file may end in a seal,
//! which else proves that all of it is durable. So an empty file stands beside the segments while one is cut. It needs no
//! sync: after a power cut what is seen is what is durable.

use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameType};
use crate::io::{Disk, DiskFile, OpenMode};
use std::io;

/// The block of ext4 and XFS as they are formatted by default. A multiple of a smaller one serves as well.
const BLOCK_BYTES: u64 = 4096;

/// Stands in the log's directory while a segment is cut. Recovery trusts no seal beside it, and removes it like every
/// unfinished file.
pub(crate) const MARK_FILE_NAME: &str = "cut.segment.new";

/// Says that a segment is about to be cut, until [`unmark`].
pub(crate) fn mark(disk: &dyn Disk, directory: &str) -> io::Result<()> {
    match disk.open(&format!("{directory}/{MARK_FILE_NAME}"), OpenMode::CreateNew) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// What was cut is durable.
pub(crate) fn unmark(disk: &dyn Disk, directory: &str) -> io::Result<()> {
    disk.remove_file(&format!("{directory}/{MARK_FILE_NAME}"))?;
    disk.sync_dir(directory)
}

/// Cuts a file down to `keep` bytes, where a frame begins, durably. Returns how many syncs that took.
pub(crate) fn cut(file: &dyn DiskFile, keep: u64) -> io::Result<u64> {
    let lengths = steps(file, keep)?;
    for length in &lengths {
        file.set_len(*length)?;
        file.sync_all()?;
    }
    Ok(lengths.len() as u64)
}

/// The lengths on the way to `keep`, which is the last.
fn steps(file: &dyn DiskFile, keep: u64) -> io::Result<Vec<u64>> {
    let block_end = keep.next_multiple_of(BLOCK_BYTES);
    let mut steps = Vec::new();
    if block_end > keep && file.len()? > keep {
        if file.len()? > block_end {
            steps.push(block_end);
        }
        let mut frames = frames(&file.read_at((block_end - keep) as usize, keep)?, keep);
        while let Some(last) = frames.last() {
            let vouched_for = last.synced_index;
            let first = frames.iter().position(|frame| frame.after >= vouched_for);
            // The last one vouches for nothing behind itself.
            let first = first.unwrap_or(frames.len() - 1);
            steps.push(frames[first].position);
            frames.truncate(first);
        }
    }
    if steps.last() != Some(&keep) {
        steps.push(keep);
    }
    Ok(steps)
}

/// A frame's header, as far as it matters here.
struct Header {
    position: u64,
    /// The last entry before it.
    after: u64,
    synced_index: u64,
}

/// The headers that stand whole in `bytes`, which begin at `position` with the first.
fn frames(bytes: &[u8], position: u64) -> Vec<Header> {
    let mut headers = Vec::new();
    let mut at = 0;
    let header_at = |at: usize| FrameHeader::decode(bytes.get(at..)?.first_chunk::<FRAME_HEADER_BYTES>()?);
    while let Some(header) = header_at(at) {
        let own = u64::from(header.frame_type == FrameType::Entry);
        let after = header.index.saturating_sub(own);
        headers.push(Header { position: position + at as u64, after, synced_index: header.synced_index });
        at = at.saturating_add(header.frame_bytes() as usize);
    }
    headers
}
