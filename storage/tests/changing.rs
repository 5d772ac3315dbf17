//! A log that changes while it is read: the change happens when the reader opens its first file.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{DIRECTORY, entry, small_options};
use lockstep_storage::io::{Disk, DiskFile, FakeDisk, OpenMode};
use lockstep_storage::{Checkpoint, Log, LogReader, RollState};
use std::io;
use std::sync::{Arc, Mutex};

type Change = Box<dyn FnOnce() + Send>;

/// A disk on which something happens before the next file is opened for reading.
struct ChangingDisk {
    disk: Arc<FakeDisk>,
    change: Mutex<Option<Change>>,
}

impl Disk for ChangingDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let change = if mode == OpenMode::Read { self.change.lock().unwrap().take() } else { None };
        if let Some(change) = change {
            change();
        }
        self.disk.open(path, mode)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.disk.sync_dir(directory)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

struct Changing {
    disk: Arc<ChangingDisk>,
    log: Arc<Mutex<Log>>,
    reader: LogReader,
}

impl Changing {
    /// A log of `entries` entries of one record and 1000 bytes, all synced and committed, none in memory.
    fn filled(entries: u64) -> Self {
        let disk = Arc::new(ChangingDisk { disk: FakeDisk::new(), change: Mutex::new(None) });
        let genesis = Checkpoint { log_start: 1, ..Checkpoint::default() };
        Log::create(disk.clone(), DIRECTORY, &small_options(), genesis, [1; 16]).unwrap();
        let mut log = open(&disk);
        for n in 1..=entries {
            append(&mut log, 1000);
            flush(&mut log);
            if n.is_multiple_of(5) {
                log.roll(RollState::default(), [n as u8 + 1; 16]).unwrap();
                flush(&mut log);
            }
        }
        log.set_commit(u64::MAX);
        let reader = log.reader();
        Self { disk, log: Arc::new(Mutex::new(log)), reader }
    }

    /// What happens when the next file is opened for reading.
    fn meanwhile(&self, change: impl FnOnce(&mut Log) + Send + 'static) {
        let log = self.log.clone();
        *self.disk.change.lock().unwrap() = Some(Box::new(move || change(&mut log.lock().unwrap())));
    }
}

fn open(disk: &Arc<ChangingDisk>) -> Log {
    Log::recover(disk.clone(), DIRECTORY, small_options(), &mut |_| ()).unwrap().log
}

fn append(log: &mut Log, body_bytes: usize) {
    log.append(entry(log.last_index() + 1, 1, log.next_lsn(), 1, body_bytes)).unwrap();
}

fn flush(log: &mut Log) {
    let outcome = log.take_group().unwrap().run();
    log.group_done(outcome).unwrap();
}

#[test]
fn reads_of_one_segment_open_its_file_once() {
    let changing = Changing::filled(20);
    changing.reader.read(2, 1, 20).unwrap();
    changing.meanwhile(|_| panic!("opened again"));
    changing.reader.read(1, 1, 20).unwrap();
    changing.reader.read_entries(3, 4, 1).unwrap();
}

#[test]
fn a_search_for_a_time_goes_on_behind_what_is_trimmed_during_it() {
    let changing = Changing::filled(20);
    changing.meanwhile(|log| {
        log.trim(11);
        flush(log);
    });
    let found = changing.reader.lsn_for_time(5000, 20).unwrap().unwrap();
    assert_eq!(found.first_lsn, 11);
}

#[test]
fn a_search_for_a_time_finds_what_is_synced_and_evicted_during_it() {
    let changing = Changing::filled(12);
    // Not synced: it is in memory alone.
    append(&mut changing.log.lock().unwrap(), 100);
    let time = 5000 + 10 * 13;
    changing.meanwhile(|log| {
        flush(log);
        log.set_commit(u64::MAX);
        (0..8).for_each(|_| append(log, 1000));
        flush(log);
        log.set_commit(u64::MAX);
    });
    let found = changing.reader.lsn_for_time(time, 21).unwrap().unwrap();
    assert_eq!((found.first_lsn, found.max_timestamp_ms), (13, time));
}
