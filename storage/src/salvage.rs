//! What storage offers for the repair of a faulty replica: to see what is intact, and to put back what is not.
//!
//! A replica is *faulty* when recovery reports damage or a lost vote, when a read or the scrub finds rot, or when its
//! leader proves that it lacks entries it acknowledged. The host marks it first, durably, outside of the log's
//! directory; while the mark stands, only what is in this module touches the files. In order:
//!
//! 1. [`Survey::take`] reads everything and changes nothing. [`Survey::read`] still serves what is intact to peers.
//! 2. If the vote is lost: [`reset_vote`] with one that is safe.
//! 3. **Patch.** Each segment with a [`Hole`] that something intact closes is written anew with entries from any
//!    peer: [`Patch`]. The chain proves them on both sides, so it does not matter whom they come from.
//! 4. **Tail.** Where nothing intact stands behind a hole, [`cut_to_intact`] ends the log before it. The host then
//!    opens the log with [`Log::recover`](crate::Log::recover), still under the mark, and appends what a confirmed
//!    leader has, through the index that the leader says this replica acknowledged.
//! 5. **Restart.** Where no prefix is left to go on from, [`restart_from`] begins anew behind a peer's checkpoint;
//!    then as in 4.
//! 6. When the log is whole and synced again: [`discard_damaged`], and only then the mark goes.
//!
//! Invariants:
//! - A power cut at any call leaves the old damage, or what the call is to make. Each call can be repeated.
//! - An entry that no checksum and no chain value vouches for is never written, and a refused one changes nothing.
//! - What was intact stays intact: no call removes a whole frame before the repair is proven. What leaves the log
//!   goes to the subdirectory [`DAMAGED_DIRECTORY`].

mod damaged;
mod hole;
mod lenient;
mod patch;
mod pieces;
mod read;
mod rewrite;
mod survey;

pub use damaged::{DAMAGED_DIRECTORY, cut_to_intact, discard_damaged, restart_from};
pub use hole::{ChainPoint, Hole};
pub use lenient::LenientDisk;
pub use patch::{Patch, PatchError, patch};
pub use survey::{Survey, SurveyError};

use crate::io::{Disk, parent};
use crate::vote::{VOTE_FILE_NAME, Vote, VoteFile};
use std::io;

/// Gives a replica that lost its vote a new one, in both copies; durable when it returns. The vote must be one that
/// this replica cannot have contradicted: of a term that it never voted in, or for nobody in a term that is over.
///
/// # Errors
/// Whatever the disk says; the old file then stands, or the new one.
pub fn reset_vote(disk: &dyn Disk, directory: &str, shard: u64, vote: Vote) -> io::Result<()> {
    let path = format!("{directory}/{VOTE_FILE_NAME}");
    let temporary = format!("{directory}/{NEW_VOTE_FILE_NAME}");
    if disk.exists(&temporary)? {
        disk.remove_file(&temporary)?;
    }
    VoteFile::create(disk, &temporary, shard)?.write(disk, vote)?;
    disk.rename(&temporary, &path)?;
    disk.sync_dir(directory)?;
    disk.sync_dir(parent(directory))
}

/// Name of a new vote file until it is whole. Recovery removes what it finds under it.
pub(crate) const NEW_VOTE_FILE_NAME: &str = "vote.new";
