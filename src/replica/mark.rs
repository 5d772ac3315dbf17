//! A replica that lacks what it once acknowledged must not take part again because somebody restarts its broker.
//!
//! So it is marked, durably, beside its directory, before anything else is done about it, and the mark goes last:
//! ```text
//! shards/7.faulty     line 1: "holes SYNCED CRC32C" or "tail"    then: the reason, for people
//! ```
//! SYNCED is the index through which the log had been synced when the damage was found, 0 if that is not known: what is lost
//! at its end looks like a tear afterwards. The checksum, in hexadecimal, is that of the line before it. A marked log is opened
//! by repair alone. Whatever does not read as the milder kind counts as the worse: no changed bit makes a mark milder.

use std::io;

use bytes::Bytes;
use lockstep_storage::io::{Disk, OpenMode, parent, replace_file};

/// What a replica lacks, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Entries with something intact behind them: the chain proves what fills the hole.
    Holes {
        /// Through this index its log had been synced, as far as is known.
        synced_index: u64,
    },
    /// It cannot tell by itself where its log ended: only a confirmed leader can.
    Tail,
}

/// The mark on a faulty replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it lacks.
    pub loss: Loss,
    /// Why, for people.
    pub why: String,
}

const TAIL: &str = "tail";

impl Mark {
    /// The mark on the log in `directory`, if there is one.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn read(disk: &dyn Disk, directory: &str) -> io::Result<Option<Self>> {
        let path = path(directory);
        if !disk.exists(&path)? {
            return Ok(None);
        }
        let read = disk.open(&path, OpenMode::Read).and_then(|file| file.read_at(file.len()? as usize, 0));
        let text = read.unwrap_or_else(|error| Bytes::from(format!("its mark cannot be read: {error}")));
        let text = String::from_utf8_lossy(&text);
        let (kind, why) = text.split_once('\n').unwrap_or((&text, ""));
        Ok(Some(match synced_index_of(kind) {
            Some(synced_index) => Self { loss: Loss::Holes { synced_index }, why: why.to_owned() },
            None if kind == TAIL => Self { loss: Loss::Tail, why: why.to_owned() },
            None => Self { loss: Loss::Tail, why: text.into_owned() },
        }))
    }

    /// Marks the log in `directory`, durably. A mark of the worse kind, or of more that had been synced, stays.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn write(&self, disk: &dyn Disk, directory: &str) -> io::Result<()> {
        if Self::read(disk, directory)?.is_some_and(|mark| mark.loss >= self.loss) {
            // Whoever wrote it may have ended before its name was durable.
            return disk.sync_dir(parent(directory));
        }
        let kind = match self.loss {
            Loss::Holes { synced_index } => holes(synced_index),
            Loss::Tail => TAIL.to_owned(),
        };
        let path = path(directory);
        replace_file(disk, &format!("{path}.new"), &path, Bytes::from(format!("{kind}\n{}", self.why)))
    }

    /// Removes the mark, durably.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn remove(disk: &dyn Disk, directory: &str) -> io::Result<()> {
        let path = path(directory);
        if disk.exists(&path)? {
            disk.remove_file(&path)?;
            disk.sync_dir(parent(directory))?;
        }
        Ok(())
    }
}

/// The first line of the milder kind.
fn holes(synced_index: u64) -> String {
    let said = format!("holes {synced_index}");
    format!("{said} {:08x}", crc32c::crc32c(said.as_bytes()))
}

fn synced_index_of(line: &str) -> Option<u64> {
    let synced_index = line.strip_prefix("holes ")?.split_once(' ')?.0.parse().ok()?;
    (holes(synced_index) == line).then_some(synced_index)
}

fn path(directory: &str) -> String {
    format!("{directory}.faulty")
}

#[cfg(test)]
mod tests {
    use lockstep_storage::io::fake::FakeDisk;

    use super::*;

    fn disk() -> std::sync::Arc<FakeDisk> {
        let disk = FakeDisk::new();
        disk.create_dir("shards").expect("a fresh disk");
        disk.sync_dir("").expect("a healthy disk");
        disk
    }

    const HOLES: Loss = Loss::Holes { synced_index: 381 };

    fn mark(loss: Loss) -> Mark {
        Mark { loss, why: "entries are missing".into() }
    }

    #[test]
    fn a_mark_survives_a_power_cut_until_it_is_removed() {
        // Whether a name that was not synced survives is drawn: some seed loses it.
        for seed in 1..=16 {
            let disk = disk();
            assert_eq!(Mark::read(&*disk, "shards/7").expect("readable"), None);
            mark(HOLES).write(&*disk, "shards/7").expect("a healthy disk");
            disk.power_cut();
            disk.restart(seed);
            assert_eq!(Mark::read(&*disk, "shards/7").expect("readable"), Some(mark(HOLES)));
            Mark::remove(&*disk, "shards/7").expect("a healthy disk");
            disk.power_cut();
            disk.restart(seed);
            assert_eq!(Mark::read(&*disk, "shards/7").expect("readable"), None);
        }
    }

    #[test]
    fn a_mark_can_get_worse_and_never_better() {
        let disk = disk();
        for (written, stands) in [(HOLES, HOLES), (Loss::Tail, Loss::Tail), (HOLES, Loss::Tail)] {
            mark(written).write(&*disk, "shards/7").expect("a healthy disk");
            let read = Mark::read(&*disk, "shards/7").expect("readable").expect("it is marked");
            assert_eq!(read.loss, stands);
        }
    }

    #[test]
    fn a_mark_remembers_the_most_that_was_ever_known_to_be_synced() {
        let disk = disk();
        for (synced_index, stands) in [(0, 0), (7, 7), (3, 7)] {
            mark(Loss::Holes { synced_index }).write(&*disk, "shards/7").expect("a healthy disk");
            let read = Mark::read(&*disk, "shards/7").expect("readable").expect("it is marked");
            assert_eq!(read.loss, Loss::Holes { synced_index: stands });
        }
    }

    #[test]
    fn a_mark_that_cannot_be_read_counts_as_the_worse_kind() {
        let disk = disk();
        mark(HOLES).write(&*disk, "shards/7").expect("a healthy disk");
        disk.make_unreadable("shards/7.faulty", 0, 1).expect("it is there");
        let read = Mark::read(&*disk, "shards/7").expect("readable").expect("it is marked");
        assert_eq!(read.loss, Loss::Tail);
    }

    #[test]
    fn no_changed_bit_makes_a_mark_milder() {
        let disk = disk();
        for loss in [HOLES, Loss::Tail] {
            mark(loss).write(&*disk, "shards/7").expect("a healthy disk");
            let line = if loss == HOLES { holes(381) } else { TAIL.to_owned() };
            for bit in 0..8 * (line.len() as u64 + 1) {
                disk.flip_bit("shards/7.faulty", bit / 8, (bit % 8) as u8);
                let read = Mark::read(&*disk, "shards/7").expect("readable").expect("it is marked");
                assert_eq!(read.loss, Loss::Tail, "bit {bit} of {loss:?}");
                disk.flip_bit("shards/7.faulty", bit / 8, (bit % 8) as u8);
            }
        }
    }
}
