//! What a node's former replica of a shard may have promised, for the next one on the same node.
//!
//! ```text
//! shards/7.former          0  u32  CRC-32C of the rest    4  u64  term
//! shards/7.former.copy     the same
//! ```
//! Little endian. Written before the former replica's files go, one after the other, and kept; either is enough.
//!
//! What holds: to the others, the next replica is the former one that goes on. It begins in a term behind every vote and
//! acknowledgement of the former one, and neither votes nor asks for votes until its log ends in an entry of such a term. By
//! then it holds whatever the former one helped to commit: an acknowledgement counts for a leader of its own term alone, so
//! that was committed by a leader of the former one's terms, and every leader of a later term has it in front of its own
//! entries. Before that, the replica might help to elect a leader who lacks it.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_storage::io::{Disk, OpenMode, replace_file};

const BYTES: usize = 12;

/// How far the replicas that this node held before have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Former {
    /// Their greatest term; 0 if there were none, or none that promised anything.
    pub term: u64,
}

impl Former {
    /// What is known of those in `directory`; 0 if there were none.
    ///
    /// # Errors
    /// Whatever the disk says, or that both copies are damaged.
    pub fn read(disk: &dyn Disk, directory: &str) -> io::Result<Self> {
        let copies = [read(disk, &path(directory))?, read(disk, &copy(directory))?];
        let intact = copies.iter().filter_map(|copy| copy.as_ref().ok()).max_by_key(|former| former.term);
        match intact {
            Some(former) => Ok(*former),
            None if copies == [Err(Unread::Missing); 2] => Ok(Self::default()),
            None => {
                let why = format!(
                    "{} and its copy are damaged, and nobody else knows what this node has promised: take its replica out \
                     for good",
                    path(directory)
                );
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }

    /// Adds this one to what is known of those in `directory`, durably.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn write(self, disk: &dyn Disk, directory: &str) -> io::Result<()> {
        let known = Self::read(disk, directory)?;
        let content = Self { term: self.term.max(known.term) }.encode();
        for path in [path(directory), copy(directory)] {
            replace_file(disk, &format!("{path}.new"), &path, content.clone())?;
        }
        Ok(())
    }

    fn encode(self) -> Bytes {
        let mut bytes = BytesMut::zeroed(4);
        bytes.put_u64_le(self.term);
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes.freeze()
    }
}

/// Why a copy says nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unread {
    Missing,
    Damaged,
}

fn read(disk: &dyn Disk, path: &str) -> io::Result<Result<Former, Unread>> {
    if !disk.exists(path)? {
        return Ok(Err(Unread::Missing));
    }
    // A copy that cannot be read says no more than one that is damaged: the other one counts.
    let read = disk.open(path, OpenMode::Read).and_then(|file| file.read_at(file.len()? as usize, 0));
    let Ok(bytes) = read else { return Ok(Err(Unread::Damaged)) };
    let Ok(bytes) = <&[u8; BYTES]>::try_from(&bytes[..]) else { return Ok(Err(Unread::Damaged)) };
    let former = Former { term: u64::from_le_bytes(bytes[4..].try_into().expect("eight of the twelve")) };
    Ok(if former.encode()[..] == bytes[..] { Ok(former) } else { Err(Unread::Damaged) })
}

fn path(directory: &str) -> String {
    format!("{directory}.former")
}

fn copy(directory: &str) -> String {
    format!("{directory}.former.copy")
}

#[cfg(test)]
mod tests {
    use lockstep_storage::io::fake::FakeDisk;

    use super::*;

    #[test]
    fn what_former_replicas_promised_adds_up_and_survives_a_power_cut() {
        let disk = FakeDisk::new();
        assert_eq!(Former::read(&*disk, "7").expect("readable"), Former::default());
        for term in [3, 5, 4] {
            Former { term }.write(&*disk, "7").expect("a healthy disk");
        }
        disk.power_cut();
        disk.restart(1);
        assert_eq!(Former::read(&*disk, "7").expect("readable"), Former { term: 5 });
    }

    #[test]
    fn a_changed_bit_in_what_was_promised_is_found_and_the_other_copy_counts() {
        let disk = FakeDisk::new();
        Former { term: 3 }.write(&*disk, "7").expect("a healthy disk");
        for bit in 0..8 * BYTES as u64 {
            let flip = |file: &str| disk.flip_bit(file, bit / 8, (bit % 8) as u8);
            for (file, other) in [("7.former", "7.former.copy"), ("7.former.copy", "7.former")] {
                flip(file);
                assert_eq!(Former::read(&*disk, "7").expect("readable"), Former { term: 3 }, "bit {bit}");
                flip(other);
                assert!(Former::read(&*disk, "7").is_err(), "bit {bit}");
                flip(file);
                flip(other);
            }
        }
    }

    #[test]
    fn of_a_copy_that_cannot_be_read_the_other_one_counts() {
        let disk = FakeDisk::new();
        Former { term: 3 }.write(&*disk, "7").expect("a healthy disk");
        disk.make_unreadable("7.former", 0, 1).expect("it is there");
        assert_eq!(Former::read(&*disk, "7").expect("readable"), Former { term: 3 });
        Former { term: 9 }.write(&*disk, "7").expect("a healthy disk");
        assert_eq!(Former::read(&*disk, "7").expect("readable"), Former { term: 9 });
    }

    #[test]
    fn a_crash_between_the_copies_leaves_the_greater_one() {
        let disk = FakeDisk::new();
        Former { term: 3 }.write(&*disk, "7").expect("a healthy disk");
        replace_file(&*disk, "7.new", "7.former", Former { term: 8 }.encode()).expect("a healthy disk");
        assert_eq!(Former::read(&*disk, "7").expect("readable"), Former { term: 8 });
        Former { term: 9 }.write(&*disk, "7").expect("a healthy disk");
        disk.flip_bit("7.former", 5, 1);
        assert_eq!(Former::read(&*disk, "7").expect("readable"), Former { term: 9 });
    }
}
