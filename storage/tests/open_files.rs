//! How many files logs keep open. Alone in its process: it counts all of that.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::entry;
use lockstep_storage::io::{Disk, RealDisk};
use lockstep_storage::{Cache, Checkpoint, Log, LogOptions, ReadFiles, RollState};
use std::sync::Arc;

const LOGS: u64 = 60;
const SEGMENTS: u64 = 8;
const READ_FILES_MAX: usize = 10;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_log_keeps_one_file_open_and_all_readers_together_no_more_than_they_may() {
    let root = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(root.path()));
    let read_files = ReadFiles::new(READ_FILES_MAX);
    let before = open_files();
    let mut logs = Vec::new();
    for shard in 1..=LOGS {
        let options = LogOptions {
            shard,
            read_files: Arc::clone(&read_files),
            cache: Cache::new(0),
            ..LogOptions::default()
        };
        let directory = shard.to_string();
        let genesis = Checkpoint { log_start: 1, ..Checkpoint::default() };
        Log::create(Arc::clone(&disk), &directory, &options, genesis, [shard as u8; 16]).unwrap();
        let mut log = Log::recover(Arc::clone(&disk), &directory, options, &mut |_| ()).unwrap().log;
        for index in 1..=SEGMENTS {
            let mut nonce = [shard as u8; 16];
            (nonce[0], nonce[1]) = (index as u8, 255);
            log.append(entry(index, 1, log.next_lsn(), 1, 100)).unwrap();
            log.roll(RollState::default(), nonce).unwrap();
        }
        let written = log.take_group().unwrap().run();
        log.group_done(written).unwrap();
        log.set_commit(SEGMENTS);
        logs.push(log);
    }
    // Every segment of every log is read, in turn, as consumers of all of them would.
    for lsn in 1..=SEGMENTS {
        for log in &logs {
            assert_eq!(log.reader().read(lsn, 1, SEGMENTS).unwrap().len(), 1);
        }
    }
    assert_eq!(read_files.open(), READ_FILES_MAX);
    let opened = open_files() - before;
    assert!(opened <= LOGS as usize + READ_FILES_MAX, "{opened} files are open");
    logs.clear();
    assert_eq!((read_files.open(), open_files()), (0, before), "what nobody reads any more is closed");
}
