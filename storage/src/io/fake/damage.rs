//! What a disk does to bytes and names that it had made durable: rot, blocks that cannot be read, names that are gone.
//!
//! What holds: it strikes what is read back and what is durable alike, and stays until something else is written there
//! or the file goes. Nothing here counts as an operation.

use super::{FakeDisk, contents::Contents};
use crate::io::{Disk, OpenMode, parent};
use bytes::Bytes;
use std::sync::Arc;

/// Damage that was done to a file's bytes, by number: whether it is still there can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Harm(usize);

/// All damage that was done.
#[derive(Default)]
pub(super) struct Damage(Vec<Done>);

/// One piece of it.
struct Done {
    path: String,
    file: usize,
    position: u64,
    what: What,
}

enum What {
    /// These bytes stand where others should.
    Wrong(Vec<u8>),
    /// So many cannot be read, unless something was written there since.
    Unreadable { length: u64, mended: bool },
}

impl Damage {
    /// Something is written: the disk puts it where it can be read.
    pub(super) fn written(&mut self, file: usize, position: u64, bytes: u64) {
        for done in self.0.iter_mut().filter(|done| done.file == file) {
            if let What::Unreadable { length, mended } = &mut done.what {
                *mended |= overlap(done.position, *length, position, bytes);
            }
        }
    }

    pub(super) fn is_unreadable(&self, file: usize, position: u64, bytes: u64) -> bool {
        self.0.iter().filter(|done| done.file == file).any(|done| match done.what {
            What::Unreadable { length, mended } => !mended && overlap(done.position, length, position, bytes),
            What::Wrong(_) => false,
        })
    }
}

fn overlap(one: u64, one_bytes: u64, other: u64, other_bytes: u64) -> bool {
    one < other + other_bytes && other < one + one_bytes
}

impl FakeDisk {
    /// Puts `bytes` where others were durable, durably: rot, or a write that was meant for another place. `None` if
    /// there are no so many bytes, or these were there already.
    pub fn corrupt(&self, path: &str, position: u64, bytes: &[u8]) -> Option<Harm> {
        let mut state = self.state();
        let file = state.names.durable_file(path)?;
        let changed = state.files.get_mut(file)?.corrupt(position as usize, bytes);
        let done = Done { path: path.to_owned(), file, position, what: What::Wrong(bytes.to_vec()) };
        changed.then(|| state.damage.push(done))
    }

    /// Flips one bit of a stored file, durably: rot. Does nothing if there is no such byte.
    pub fn flip_bit(&self, path: &str, position: u64, bit: u8) {
        let mut state = self.state();
        if let Some(file) = state.names.file(path)
            && let Some(contents) = state.files.get_mut(file)
        {
            contents.flip(position, bit);
        }
    }

    /// So many bytes of a file cannot be read any more, until they are written anew. `None` if it is not there.
    pub fn make_unreadable(&self, path: &str, position: u64, length: u64) -> Option<Harm> {
        let mut state = self.state();
        let file = state.names.durable_file(path)?;
        let what = What::Unreadable { length, mended: false };
        Some(state.damage.push(Done { path: path.to_owned(), file, position, what }))
    }

    /// A name that was durable is gone, with what was under it. Returns whether it was there.
    pub fn lose(&self, path: &str) -> bool {
        self.state().names.lose(path)
    }

    /// Whether that damage is still there, under the name it was done to.
    pub fn is_harmed(&self, harm: Harm) -> bool {
        let state = self.state();
        let Some(Done { path, file, position, what }) = state.damage.0.get(harm.0) else { return false };
        if state.names.durable_file(path) != Some(*file) {
            return false;
        }
        let Some(durable) = state.files.get(*file).map(Contents::durable) else { return false };
        let from = *position as usize;
        match what {
            What::Wrong(bytes) => durable.get(from..from + bytes.len()) == Some(&bytes[..]),
            What::Unreadable { mended, .. } => !mended && from < durable.len(),
        }
    }

    /// Another disk with what of a directory's files would survive a power cut that loses all it may.
    pub fn durable_copy(&self, directory: &str) -> Arc<Self> {
        let copy = Self::new();
        for at in directory.match_indices('/').map(|(at, _)| at).chain([directory.len()]) {
            drop(copy.create_dir(&directory[..at]).and_then(|()| copy.sync_dir(parent(&directory[..at]))));
        }
        let names = self.state().names.durable_names(directory);
        for name in names {
            let path = format!("{directory}/{name}");
            let Some(bytes) = self.durable_bytes(&path) else { continue };
            let written = copy.open(&path, OpenMode::CreateNew).and_then(|file| {
                file.write_vectored_at(&[Bytes::from(bytes)], 0)?;
                file.sync_all()
            });
            drop(written.and_then(|()| copy.sync_dir(directory)));
        }
        copy
    }
}

impl Damage {
    fn push(&mut self, done: Done) -> Harm {
        self.0.push(done);
        Harm(self.0.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Arc<FakeDisk> {
        let disk = FakeDisk::new();
        disk.create_dir("d").unwrap();
        let file = disk.open("d/f", OpenMode::CreateNew).unwrap();
        file.write_vectored_at(&[Bytes::from(vec![1; 10_000])], 0).unwrap();
        file.sync_all().unwrap();
        disk.sync_dir("d").unwrap();
        disk.sync_dir("").unwrap();
        disk
    }

    #[test]
    fn rot_outlives_a_power_cut_and_is_gone_once_written_over() {
        let disk = disk();
        let harm = disk.corrupt("d/f", 5, &[7, 7]).unwrap();
        disk.restart(1);
        let file = disk.open("d/f", OpenMode::ReadWrite).unwrap();
        assert_eq!(&file.read_at(4, 4).unwrap()[..], [1, 7, 7, 1]);
        assert!(disk.is_harmed(harm));
        file.write_vectored_at(&[Bytes::from_static(&[2])], 6).unwrap();
        assert!(disk.is_harmed(harm), "not synced yet");
        file.sync_data().unwrap();
        assert!(!disk.is_harmed(harm));
        assert_eq!(disk.corrupt("d/f", 0, &[1]), None, "nothing changes");
        assert_eq!(disk.corrupt("d/f", 9_999, &[7, 7]), None, "there is no such byte");
    }

    #[test]
    fn what_cannot_be_read_fails_wherever_it_is_touched_until_it_is_written() {
        let disk = disk();
        let harm = disk.make_unreadable("d/f", 4096, 512).unwrap();
        let file = disk.open("d/f", OpenMode::ReadWrite).unwrap();
        assert!(file.read_at(4096, 0).is_ok() && file.read_at(10, 4608).is_ok());
        assert!(file.read_at(4097, 0).is_err() && file.read_at(1, 4607).is_err());
        assert!(disk.is_harmed(harm));
        file.write_vectored_at(&[Bytes::from(vec![3; 512])], 4096).unwrap();
        assert!(file.read_at(4097, 0).is_ok() && !disk.is_harmed(harm));
    }

    #[test]
    fn a_lost_name_takes_its_file_along_and_leaves_the_others() {
        let disk = disk();
        let harm = disk.corrupt("d/f", 0, &[9]).unwrap();
        assert!(disk.lose("d/f") && !disk.lose("d/f"));
        assert!(!disk.exists("d/f").unwrap() && !disk.is_harmed(harm));
        disk.restart(2);
        assert_eq!(disk.list("d").unwrap(), Vec::<String>::new());
        disk.open("d/f", OpenMode::CreateNew).unwrap();
    }

    #[test]
    fn a_disk_that_vanished_answers_nothing_until_the_process_starts_anew() {
        let disk = disk();
        let file = disk.open("d/f", OpenMode::ReadWrite).unwrap();
        disk.vanish();
        assert!(file.read_at(1, 0).is_err() && disk.list("d").is_err() && file.sync_data().is_err());
        disk.kill_process();
        assert_eq!(disk.durable_copy("d").durable_bytes("d/f"), disk.durable_bytes("d/f"));
        assert!(disk.open("d/f", OpenMode::Read).unwrap().read_at(1, 0).is_ok());
    }
}
