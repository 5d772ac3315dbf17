//! What a node's former replica of a shard may have promised, for the next one on the same node.
//!
//! ```text
//! shards/7.former      0  u32  CRC-32C of the rest    4  u64  term    12  u64  last index
//! ```
//! Little endian. Written before the former replica's files go, and kept.
//!
//! What holds: to the others, the next replica is the former one that goes on. It begins in a term behind every vote and
//! acknowledgement of the former one, and neither votes nor asks for votes until its log reaches as far. By then it
//! holds whatever the former one helped to commit; before that, it might help to elect a leader who lacks it.

use std::io;

use bytes::{BufMut, BytesMut};
use lockstep_storage::io::{Disk, OpenMode, replace_file};

const BYTES: usize = 20;

/// How far the replicas that this node held before have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Former {
    /// Their greatest term.
    pub term: u64,
    /// The greatest index that was ever synced in one of them.
    pub last_index: u64,
}

impl Former {
    /// What is known of those in `directory`; all 0 if there were none.
    ///
    /// # Errors
    /// Whatever the disk says, or that the file is damaged.
    pub fn read(disk: &dyn Disk, directory: &str) -> io::Result<Self> {
        let path = path(directory);
        if !disk.exists(&path)? {
            return Ok(Self::default());
        }
        let file = disk.open(&path, OpenMode::Read)?;
        let bytes = file.read_at(file.len()? as usize, 0)?;
        let damaged = || {
            let why = format!(
                "{path} is damaged, and nobody else knows what this node has promised: take its replica out for good"
            );
            io::Error::new(io::ErrorKind::InvalidData, why)
        };
        let bytes: &[u8; BYTES] = bytes[..].try_into().map_err(|_| damaged())?;
        let number =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight of the twenty"));
        if bytes[..4] != crc32c::crc32c(&bytes[4..]).to_le_bytes() {
            return Err(damaged());
        }
        Ok(Self { term: number(4), last_index: number(12) })
    }

    /// Adds this one to what is known of those in `directory`, durably.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn write(self, disk: &dyn Disk, directory: &str) -> io::Result<()> {
        let known = Self::read(disk, directory)?;
        let (term, last_index) = (self.term.max(known.term), self.last_index.max(known.last_index));
        let mut bytes = BytesMut::zeroed(4);
        bytes.put_u64_le(term);
        bytes.put_u64_le(last_index);
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        let path = path(directory);
        replace_file(disk, &format!("{path}.new"), &path, bytes.freeze())
    }
}

fn path(directory: &str) -> String {
    format!("{directory}.former")
}

#[cfg(test)]
mod tests {
    use lockstep_storage::io::fake::FakeDisk;

    use super::*;

    #[test]
    fn what_former_replicas_promised_adds_up_and_survives_a_power_cut() {
        let disk = FakeDisk::new();
        assert_eq!(Former::read(&*disk, "7").expect("readable"), Former::default());
        for (term, last_index) in [(3, 20), (5, 10)] {
            Former { term, last_index }.write(&*disk, "7").expect("a healthy disk");
        }
        disk.power_cut();
        disk.restart(1);
        assert_eq!(Former::read(&*disk, "7").expect("readable"), Former { term: 5, last_index: 20 });
    }

    #[test]
    fn a_changed_bit_in_what_was_promised_is_found() {
        let disk = FakeDisk::new();
        Former { term: 3, last_index: 20 }.write(&*disk, "7").expect("a healthy disk");
        for bit in 0..8 * BYTES as u64 {
            disk.flip_bit("7.former", bit / 8, (bit % 8) as u8);
            assert!(Former::read(&*disk, "7").is_err(), "bit {bit}");
            disk.flip_bit("7.former", bit / 8, (bit % 8) as u8);
        }
    }
}
