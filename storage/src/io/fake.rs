//! A simulated disk: everything in memory, and a crash keeps only what the contract promises.
//!
//! Invariants:
//! - Deterministic: what a crash keeps of the volatile follows from its seed alone.
//! - Of unsynced contents a crash keeps any set of 512-byte sectors; lengths are kept or lost in order. Cutting a file
//!   inside a block zeroes the block's rest, and a crash may keep those zeros without the new length.
//! - Of unsynced names it keeps any set of changes, except that changes to one file stay in order, as a journal
//!   keeps them, and a rename is one change.
//! - After a crash, and while it is down, every handle fails.
//!
//! - What is damaged at rest ([`Harm`]) is damaged for good: it outlives crashes, until something else is written there.
//!
//! A test plants faults by counting: every operation that changes something has a number, from 1, and so has every read.

mod contents;
mod damage;
mod file;
mod names;

pub use damage::Harm;

use super::{Disk, DiskFile, OpenMode};
use crate::segment::{is_temporary, number_of};
use contents::Contents;
use damage::Damage;
use file::FakeFile;
use names::{Names, ROOT};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What happens at an operation chosen by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The machine stops during it: it and everything after fails until [`FakeDisk::restart`]. What it would have
    /// changed is volatile, so the restart's seed decides how much of it is left.
    PowerCut,
    /// It fails with this kind of error and changes nothing.
    Error(io::ErrorKind),
    /// A sync fails, and what it covered counts as clean from then on though it is not durable (seen on ext4 and
    /// XFS). On any other operation the same as [`Fault::Error`].
    LostSync(io::ErrorKind),
    /// The same, and the kernel drops the clean pages: reads give what was there before.
    DroppedPages(io::ErrorKind),
    /// A write fails after half of it. On any other operation the same as [`Fault::Error`].
    ShortWrite(io::ErrorKind),
}

/// What a sync does to the file or directory it is called for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Synced {
    /// All is durable.
    Done,
    /// Pages count as clean, and are not durable.
    Forgotten,
    /// The same, and they are gone.
    Dropped,
}

/// How often each operation was called since the disk was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FakeCounters {
    /// Operations that change something, failed ones included: the numbers faults are planted at.
    pub operations: u64,
    /// Writes to files.
    pub writes: u64,
    /// Bytes of them.
    pub written_bytes: u64,
    /// Syncs of files.
    pub file_syncs: u64,
    /// Syncs of directories.
    pub directory_syncs: u64,
    /// Reads of files.
    pub reads: u64,
    /// Bytes of them.
    pub read_bytes: u64,
    /// Reads that failed because that was planted.
    pub read_errors: u64,
}

/// The simulated disk. Shared by `Arc`: the test keeps one handle and storage another.
pub struct FakeDisk {
    me: std::sync::Weak<FakeDisk>,
    state: Mutex<State>,
}

struct State {
    names: Names,
    files: Vec<Contents>,
    faults: BTreeMap<u64, Fault>,
    read_faults: BTreeMap<u64, io::ErrorKind>,
    damage: Damage,
    counters: FakeCounters,
    /// Grows at each restart; handles of an earlier life fail.
    life: u64,
    down: bool,
    /// It does not answer any more.
    vanished: bool,
    capacity_bytes: u64,
    syncs_lie: bool,
}

impl FakeDisk {
    /// An empty disk without a limit.
    #[allow(clippy::new_ret_no_self, reason = "a disk is of use only when shared")]
    pub fn new() -> Arc<Self> {
        let state = State {
            names: Names::new(),
            files: Vec::new(),
            faults: BTreeMap::new(),
            read_faults: BTreeMap::new(),
            damage: Damage::default(),
            counters: FakeCounters::default(),
            life: 0,
            down: false,
            vanished: false,
            capacity_bytes: u64::MAX,
            syncs_lie: false,
        };
        Arc::new_cyclic(|me| Self { me: me.clone(), state: Mutex::new(state) })
    }

    /// Plants `fault` at the operation with this number; see [`FakeCounters::operations`].
    pub fn plant(&self, operation: u64, fault: Fault) {
        self.state().faults.insert(operation, fault);
    }

    /// Lets the read with this number fail; see [`FakeCounters::reads`].
    pub fn plant_read(&self, read: u64, error: io::ErrorKind) {
        self.state().read_faults.insert(read, error);
    }

    /// Takes back what was planted and has not struck.
    pub fn forgive(&self) {
        self.state().forgive();
    }

    /// The disk is gone: whatever is asked of it fails, until the machine or the process is restarted.
    pub fn vanish(&self) {
        self.state().vanished = true;
    }

    /// The machine stops now.
    pub fn power_cut(&self) {
        self.state().down = true;
    }

    /// Whether the machine has stopped.
    pub fn is_down(&self) -> bool {
        self.state().down
    }

    /// The machine comes back after a power cut (which this is, if there was none): of everything volatile, `seed`
    /// decides what is left. Planted faults are gone.
    pub fn restart(&self, seed: u64) {
        let mut state = self.state();
        let mut random = Random(seed ^ 0x9E37_79B9_7F4A_7C15);
        state.names.crash(&mut random);
        state.files.iter_mut().for_each(|file| file.crash(&mut random));
        state.begin_life();
    }

    /// The process dies and the machine does not: all is kept, and handles fail. Planted faults are gone.
    pub fn kill_process(&self) {
        let mut state = self.state();
        state.begin_life();
    }

    /// The disk holds at most so many bytes of files; writes beyond fail with `StorageFull`.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    /// Syncs from now on report success and do nothing: to prove that a checker would notice.
    pub fn lie_about_syncs(&self, lie: bool) {
        self.state().syncs_lie = lie;
    }

    /// The bytes of a file that would survive a power cut that loses all it may; `None` if not even its name would.
    pub fn durable_bytes(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.names.durable_file(path)?;
        state.files.get(file).map(|contents| contents.durable().to_vec())
    }

    /// The files in a directory with anything that no sync covers yet, and the directory itself if names in it are. Two kinds
    /// of name may come back: of a segment that was never completed, which recovery takes for nothing, and of one before
    /// the oldest, which it takes for the oldest (the removal of the next one is synced with it).
    pub fn unsynced(&self, directory: &str) -> Vec<String> {
        let state = self.state();
        let mut unsynced = Vec::new();
        let Ok(node) = state.names.directory(directory) else { return unsynced };
        // The names are in order, and segments' are digits of one length.
        let oldest = state.names.files_in(node).find_map(|(name, _)| number_of(name));
        let has_left =
            |name: &str| number_of(name).zip(oldest).is_some_and(|(number, oldest)| number < oldest);
        if state.names.has_unsynced(node, |name| is_temporary(name) || has_left(name)) {
            unsynced.push(directory.to_owned());
        }
        for (name, file) in state.names.files_in(node) {
            if state.files.get(file).is_some_and(Contents::has_unsynced) {
                unsynced.push(format!("{directory}/{name}"));
            }
        }
        unsynced
    }

    /// Whether it answers nothing any more.
    pub fn has_vanished(&self) -> bool {
        self.state().vanished
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// What has been called so far.
    pub fn counters(&self) -> FakeCounters {
        self.state().counters
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a change as the next numbered operation, unless a fault stands there.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.change_or(change, |_| ())
    }

    /// The same; `half` is what is left of it where it fails half done.
    fn change_or<T>(
        &self,
        change: impl FnOnce(&mut State) -> io::Result<T>,
        half: impl FnOnce(&mut State),
    ) -> io::Result<T> {
        let mut state = self.state();
        match state.begin()? {
            None => change(&mut state),
            Some(Fault::PowerCut) => {
                // Half done: the change is volatile, and nobody learns of it.
                let _ = change(&mut state);
                state.down = true;
                Err(down())
            }
            Some(Fault::ShortWrite(kind)) => {
                half(&mut state);
                Err(kind.into())
            }
            Some(Fault::Error(kind) | Fault::LostSync(kind) | Fault::DroppedPages(kind)) => Err(kind.into()),
        }
    }

    /// Runs a sync as the next numbered operation, unless a fault stands there.
    fn sync(&self, sync: impl FnOnce(&mut State, Synced)) -> io::Result<()> {
        let mut state = self.state();
        match state.begin()? {
            None if state.syncs_lie => {}
            None => sync(&mut state, Synced::Done),
            Some(Fault::PowerCut) => {
                state.down = true;
                return Err(down());
            }
            Some(Fault::Error(kind) | Fault::ShortWrite(kind)) => return Err(kind.into()),
            Some(Fault::LostSync(kind)) => {
                sync(&mut state, Synced::Forgotten);
                return Err(kind.into());
            }
            Some(Fault::DroppedPages(kind)) => {
                sync(&mut state, Synced::Dropped);
                return Err(kind.into());
            }
        }
        Ok(())
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        let state = self.state();
        state.answers()?;
        look(&state)
    }
}

impl State {
    /// Whether it is there at all.
    fn answers(&self) -> io::Result<()> {
        match (self.down, self.vanished) {
            (true, _) => Err(down()),
            (false, true) => Err(io::Error::other("the simulated disk is gone")),
            (false, false) => Ok(()),
        }
    }

    fn forgive(&mut self) {
        self.faults.clear();
        self.read_faults.clear();
    }

    fn begin_life(&mut self) {
        self.forgive();
        self.life += 1;
        (self.down, self.vanished) = (false, false);
    }

    fn begin(&mut self) -> io::Result<Option<Fault>> {
        self.answers()?;
        self.counters.operations += 1;
        Ok(self.faults.remove(&self.counters.operations))
    }

    fn free_bytes(&self) -> u64 {
        match self.capacity_bytes {
            // Not worth going through all files.
            u64::MAX => u64::MAX,
            capacity => capacity.saturating_sub(self.used_bytes()),
        }
    }

    fn used_bytes(&self) -> u64 {
        self.names.files().filter_map(|file| self.files.get(file)).map(Contents::len).sum()
    }
}

impl Disk for FakeDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let disk = self.me.upgrade().ok_or_else(down)?;
        let (file, life) = if mode == OpenMode::CreateNew {
            self.change(|state| {
                let file = state.files.len();
                state.names.create_file(path, file)?;
                state.files.push(Contents::default());
                Ok((file, state.life))
            })?
        } else {
            self.look(|state| Ok((state.names.file(path).ok_or(io::ErrorKind::NotFound)?, state.life)))?
        };
        Ok(Arc::new(FakeFile { disk, file, life, writable: mode != OpenMode::Read }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|state| state.names.rename(from, to))
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.change(|state| state.names.remove_file(path))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.look(|state| state.names.list(directory))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.change(|state| state.names.create_dir(path))
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.change(|state| state.names.remove_dir(path))
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        let node = self
            .look(|state| if directory.is_empty() { Ok(ROOT) } else { state.names.directory(directory) })?;
        self.sync(|state, synced| {
            if synced == Synced::Done {
                state.counters.directory_syncs += 1;
                state.names.sync(node);
            }
        })
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.look(|state| Ok(state.names.exists(path)))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.look(|state| Ok(state.free_bytes()))
    }
}

fn down() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the simulated machine is down, or this handle is from before it was",
    )
}

/// A small generator (SplitMix64), so that a crash depends on its seed and nothing else.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn surviving(seed: u64) -> (Bytes, Vec<String>) {
        let disk = FakeDisk::new();
        let file = disk.open("kept", OpenMode::CreateNew).unwrap();
        file.write_vectored_at(&[Bytes::from(vec![1; 4096])], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir("").unwrap();
        file.write_vectored_at(&[Bytes::from(vec![2; 4096])], 0).unwrap();
        disk.open("maybe", OpenMode::CreateNew).unwrap();
        disk.restart(seed);
        assert!(file.len().is_err(), "a handle from before the crash");
        let bytes = disk.open("kept", OpenMode::Read).unwrap().read_at(9000, 0).unwrap();
        (bytes, disk.list("").unwrap())
    }

    #[test]
    fn a_crash_keeps_any_sectors_and_names_and_the_seed_decides() {
        let images: Vec<_> = (0..32).map(surviving).collect();
        assert_eq!(images[3], surviving(3));
        assert!(images.iter().any(|(_, names)| names.len() == 1));
        assert!(images.iter().any(|(_, names)| names.len() == 2));
        for (bytes, _) in &images {
            assert_eq!(bytes.len(), 4096);
            assert!(bytes.chunks(512).all(|sector| sector == [1; 512] || sector == [2; 512]));
        }
        assert!(images.iter().any(|(bytes, _)| bytes.contains(&1) && bytes.contains(&2)), "torn");
    }

    #[test]
    fn a_write_that_fails_half_done_leaves_half_and_dropped_pages_give_the_bytes_of_before() {
        let disk = FakeDisk::new();
        let file = disk.open("f", OpenMode::CreateNew).unwrap();
        file.write_vectored_at(&[Bytes::from_static(b"before")], 0).unwrap();
        file.sync_all().unwrap();
        disk.plant(disk.counters().operations + 1, Fault::ShortWrite(io::ErrorKind::Other));
        assert!(file.write_vectored_at(&[Bytes::from_static(b"AFTER!")], 0).is_err());
        assert_eq!(&file.read_at(6, 0).unwrap()[..], b"AFTore");
        disk.plant(disk.counters().operations + 1, Fault::DroppedPages(io::ErrorKind::Other));
        assert!(file.sync_data().is_err());
        assert_eq!(&file.read_at(6, 0).unwrap()[..], b"before");
        file.sync_data().unwrap();
    }

    #[test]
    fn a_lost_sync_reports_once_then_lies() {
        let disk = FakeDisk::new();
        let file = disk.open("f", OpenMode::CreateNew).unwrap();
        file.sync_all().unwrap();
        disk.sync_dir("").unwrap();
        file.write_vectored_at(&[Bytes::from_static(b"gone")], 0).unwrap();
        disk.plant(disk.counters().operations + 1, Fault::LostSync(io::ErrorKind::StorageFull));
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(&file.read_at(4, 0).unwrap()[..], b"gone");
        disk.restart(1);
        assert_eq!(disk.open("f", OpenMode::Read).unwrap().len().unwrap(), 0);
    }

    #[test]
    fn unsynced_names_are_told_but_for_those_of_segments_that_may_come_back() {
        let disk = FakeDisk::new();
        disk.create_dir("d").unwrap();
        disk.open("d/00000000000000000001.segment.new", OpenMode::CreateNew).unwrap();
        assert_eq!(disk.unsynced("d"), Vec::<String>::new());
        disk.rename("d/00000000000000000001.segment.new", "d/00000000000000000001.segment").unwrap();
        assert_eq!(disk.unsynced("d"), ["d"]);
        disk.open("d/00000000000000000002.segment", OpenMode::CreateNew).unwrap();
        disk.open("d/00000000000000000003.segment", OpenMode::CreateNew).unwrap();
        disk.sync_dir("d").unwrap();
        disk.remove_file("d/00000000000000000001.segment").unwrap();
        assert_eq!(disk.unsynced("d"), Vec::<String>::new(), "the oldest");
        disk.remove_file("d/00000000000000000003.segment").unwrap();
        assert_eq!(disk.unsynced("d"), ["d"], "the newest");
    }
}
