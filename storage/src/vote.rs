//! The vote file: Raft's term and vote, in two copies.
//!
//! ```text
//!  0          4          8          16       24       32          40        48      4096        8192
//!  +----------+----------+----------+--------+--------+-----------+---------+--------+-----------+
//!  | crc      | magic    | sequence | shard  | term   | voted_for | commit  | zero … | 2nd copy  |
//!  +----------+----------+----------+--------+--------+-----------+---------+--------+-----------+
//! ```
//!
//! Invariants: an update writes and syncs one copy, then the other, and begins with the one that is older or
//! broken, so a whole copy of the last vote stands at every moment; it is done when both syncs returned. The whole
//! copy of the higher `sequence` counts; one that cannot be read is broken. Two copies that are equal prove that the sync
//! of the first has returned, but not which of them that is: whoever opens the file writes the vote again before anything
//! else, or the next vote might begin with the only durable copy. Two broken copies are never "no vote yet": a replica that
//! forgot its vote could give it twice in one term (Raft §5.2).

use crate::codec::{Fields, NUMBER_MAX, round_up};
use crate::io::{Disk, DiskFile, OpenMode};
use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use std::io;

/// Name of the file in a shard's directory.
pub const VOTE_FILE_NAME: &str = "vote";

/// What an update writes, in bytes: both copies in their blocks.
pub(crate) const VOTE_FILE_BYTES: u64 = 2 * BLOCK_BYTES as u64;

const MAGIC: u32 = u32::from_le_bytes(*b"LKVT");
const COPY_BYTES: usize = 48;
/// Each copy has a block of its own, so that one torn write cannot reach both.
const BLOCK_BYTES: usize = 4096;
const _: () = assert!(4 + 4 + 8 + 8 + 8 + 8 + 8 == COPY_BYTES && COPY_BYTES <= 512);

/// Raft's hard state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The latest term seen.
    pub term: u64,
    /// Whom this replica voted for in it; 0 for nobody.
    pub voted_for: u64,
    /// A committed index: a lower bound. It covers the log start before any segment is dropped for that.
    pub commit: u64,
}

/// The vote file of one shard. It is open only while it is written: votes are rare, and shards many.
pub(crate) struct VoteFile {
    path: String,
    shard: u64,
    newest: Copied,
}

/// A whole copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copied {
    sequence: u64,
    /// Which of the two it is.
    block: usize,
}

impl VoteFile {
    /// Creates the file with a vote for nobody; durable but for its name.
    pub(crate) fn create(disk: &dyn Disk, path: &str, shard: u64) -> io::Result<Self> {
        disk.open(path, OpenMode::CreateNew)?;
        let mut created = Self { path: path.to_owned(), shard, newest: Copied { sequence: 0, block: 1 } };
        created.write(disk, Vote::default())?;
        Ok(created)
    }

    /// Opens the file and reads its vote without writing; `None` if neither copy is whole.
    pub(crate) fn open(disk: &dyn Disk, path: &str, shard: u64) -> io::Result<Option<(Self, Vote)>> {
        let file = disk.open(path, OpenMode::ReadWrite)?;
        let newest = newest(&*file, shard)?;
        let path = path.to_owned();
        Ok(newest.map(|(newest, vote)| (Self { path, shard, newest }, vote)))
    }

    /// Replaces the vote; durable when it returns.
    pub(crate) fn write(&mut self, disk: &dyn Disk, vote: Vote) -> io::Result<()> {
        let file = disk.open(&self.path, OpenMode::ReadWrite)?;
        let Copied { sequence, block } = self.newest;
        let sequence = sequence + 1;
        let copy = encode(vote, sequence, self.shard);
        for block in [1 - block, block] {
            if block != self.newest.block && planted::is_active(Bug::StoreVoteInOneCopy) {
                continue;
            }
            file.write_vectored_at(std::slice::from_ref(&copy), (block * BLOCK_BYTES) as u64)?;
            file.sync_data()?;
            self.newest = Copied { sequence, block };
        }
        Ok(())
    }
}

/// The vote that a vote file of these bytes holds; `None` if neither copy is whole.
pub fn parse(bytes: &[u8], shard: u64) -> Option<Vote> {
    let copies = (0..2).filter_map(|block| {
        let at = block * BLOCK_BYTES;
        decode(bytes.get(at..at + COPY_BYTES)?, shard)
    });
    copies.max_by_key(|(sequence, _)| *sequence).map(|(_, vote)| vote)
}

/// The vote that counts, `None` if neither copy is whole.
pub(crate) fn read_newest(file: &dyn DiskFile, shard: u64) -> io::Result<Option<Vote>> {
    Ok(newest(file, shard)?.map(|(_, vote)| vote))
}

fn newest(file: &dyn DiskFile, shard: u64) -> io::Result<Option<(Copied, Vote)>> {
    let mut newest: Option<(Copied, Vote)> = None;
    let mut unreadable = None;
    for block in 0..2 {
        let bytes = match file.read_at(COPY_BYTES, (block * BLOCK_BYTES) as u64) {
            Ok(bytes) => bytes,
            Err(error) => {
                unreadable = Some(error);
                continue;
            }
        };
        if let Some((sequence, vote)) = decode(&bytes, shard)
            && newest.is_none_or(|(other, _)| sequence > other.sequence)
        {
            newest = Some((Copied { sequence, block }, vote));
        }
    }
    match (newest, unreadable) {
        // Nothing is known to be broken: perhaps the disk answers another time.
        (None, Some(error)) => Err(error),
        (newest, _) => Ok(newest),
    }
}

fn encode(vote: Vote, sequence: u64, shard: u64) -> Bytes {
    let mut out = vec![0; round_up(COPY_BYTES, BLOCK_BYTES)];
    out[4..8].copy_from_slice(&MAGIC.to_le_bytes());
    let numbers = [sequence, shard, vote.term, vote.voted_for, vote.commit];
    for (place, number) in out[8..COPY_BYTES].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let crc = crc32c::crc32c(&out[4..COPY_BYTES]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out.into()
}

fn decode(bytes: &[u8], shard: u64) -> Option<(u64, Vote)> {
    let copy: &[u8; COPY_BYTES] = bytes.try_into().ok()?;
    let mut fields = Fields::new(copy);
    let whole = fields.u32()? == crc32c::crc32c(&copy[4..]) && fields.u32()? == MAGIC;
    let (sequence, of_shard) = (fields.number()?, fields.u64()?);
    let vote = Vote { term: fields.number()?, voted_for: fields.u64()?, commit: fields.number()? };
    let followable = sequence < NUMBER_MAX;
    (whole && of_shard == shard && followable).then_some((sequence, vote))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::fake::{FakeDisk, Fault};
    use std::sync::Arc;

    const OLD: Vote = Vote { term: 4, voted_for: 2, commit: 0x1010_1010_1010_1010 };
    const NEW: Vote = Vote { term: 5, voted_for: 3, commit: 0x2121_2121_2121_2121 };

    #[test]
    fn a_tear_at_each_byte_of_either_copy_leaves_the_old_vote_or_the_new() {
        for block in 0..2 {
            for torn_at in 0..COPY_BYTES {
                let disk = FakeDisk::new();
                let mut votes = VoteFile::create(&*disk, "vote", 7).unwrap();
                votes.write(&*disk, OLD).unwrap();
                let file = disk.open("vote", OpenMode::ReadWrite).unwrap();
                let fresh = encode(NEW, 3, 7);
                if block == 1 {
                    file.write_vectored_at(std::slice::from_ref(&fresh), 0).unwrap();
                }
                file.write_vectored_at(&[fresh.slice(..torn_at)], (block * BLOCK_BYTES) as u64).unwrap();

                let (_, vote) = VoteFile::open(&*disk, "vote", 7).unwrap().expect("one copy is whole");
                assert_eq!(vote, if block == 1 { NEW } else { OLD }, "block {block} torn at {torn_at}");
            }
        }
    }

    /// A file of which one block cannot be read.
    struct BadBlock(Arc<dyn DiskFile>, u64);

    impl DiskFile for BadBlock {
        fn write_vectored_at(&self, buffers: &[Bytes], position: u64) -> io::Result<()> {
            self.0.write_vectored_at(buffers, position)
        }

        fn read_at(&self, length: usize, position: u64) -> io::Result<Bytes> {
            if position == self.1 { Err(io::Error::other("EIO")) } else { self.0.read_at(length, position) }
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }

        fn sync_all(&self) -> io::Result<()> {
            self.0.sync_all()
        }

        fn set_len(&self, length: u64) -> io::Result<()> {
            self.0.set_len(length)
        }

        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
    }

    #[test]
    fn a_copy_that_cannot_be_read_is_a_broken_one() {
        for block in [0, BLOCK_BYTES as u64] {
            let disk = FakeDisk::new();
            VoteFile::create(&*disk, "vote", 7).unwrap().write(&*disk, OLD).unwrap();
            let bad = BadBlock(disk.open("vote", OpenMode::Read).unwrap(), block);
            assert_eq!(read_newest(&bad, 7).unwrap(), Some(OLD));
            // With the other one broken too nothing is proved lost, and nothing found.
            disk.flip_bit("vote", BLOCK_BYTES as u64 - block + 30, 1);
            assert!(read_newest(&bad, 7).is_err());
        }
    }

    #[test]
    fn the_only_whole_copy_is_never_the_one_being_written() {
        for whole in 0..2 {
            let disk = FakeDisk::new();
            VoteFile::create(&*disk, "vote", 7).unwrap().write(&*disk, OLD).unwrap();
            disk.flip_bit("vote", ((1 - whole) * BLOCK_BYTES) as u64 + 30, 1);
            let (mut votes, _) = VoteFile::open(&*disk, "vote", 7).unwrap().unwrap();
            // The first write is under way, its sync has not returned.
            disk.plant(disk.counters().operations + 2, Fault::Error(io::ErrorKind::Other));
            votes.write(&*disk, NEW).unwrap_err();
            let file = disk.open("vote", OpenMode::Read).unwrap();
            let copy = file.read_at(COPY_BYTES, (whole * BLOCK_BYTES) as u64).unwrap();
            assert_eq!(decode(&copy, 7).map(|(_, vote)| vote), Some(OLD), "copy {whole} was touched");
        }
    }

    #[test]
    fn a_copy_whose_sequence_could_not_be_followed_is_broken() {
        let disk = FakeDisk::new();
        VoteFile::create(&*disk, "vote", 7).unwrap().write(&*disk, OLD).unwrap();
        let file = disk.open("vote", OpenMode::ReadWrite).unwrap();
        file.write_vectored_at(&[encode(NEW, NUMBER_MAX, 7)], BLOCK_BYTES as u64).unwrap();
        let (mut votes, vote) = VoteFile::open(&*disk, "vote", 7).unwrap().expect("the other copy is whole");
        assert_eq!(vote, OLD);
        votes.write(&*disk, NEW).unwrap();
        assert_eq!(read_newest(&*file, 7).unwrap(), Some(NEW));
    }

    #[test]
    fn two_broken_copies_or_another_shards_are_no_vote() {
        let disk = FakeDisk::new();
        VoteFile::create(&*disk, "vote", 7).unwrap().write(&*disk, OLD).unwrap();
        assert!(VoteFile::open(&*disk, "vote", 8).unwrap().is_none());
        disk.flip_bit("vote", 20, 3);
        assert_eq!(VoteFile::open(&*disk, "vote", 7).unwrap().map(|(_, vote)| vote), Some(OLD));
        disk.flip_bit("vote", BLOCK_BYTES as u64 + 30, 1);
        assert!(VoteFile::open(&*disk, "vote", 7).unwrap().is_none());
    }
}
