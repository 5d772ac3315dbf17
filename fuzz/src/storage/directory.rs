//! A data directory on a simulated disk, and what must hold of recovery whatever is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_storage::io::{Disk, FakeDisk, OpenMode};
use lockstep_storage::{Entry, Log, LogOptions, Recovered, RecoveryError, Replay, Survey, Vote, inspect};

use super::super::allocation::within;
use super::common::{DIRECTORY, recover};

/// What a recovery may allocate beside a multiple of the directory: read buffers, the cache.
const ALLOWANCE_BYTES: usize = 16 << 20;
const BYTES_PER_BYTE: usize = 64;
/// Entries of one log; a directory that is small cannot hold more.
const ENTRIES_MAX: usize = 10_000;

/// Writes a file, durably, in place of what was there.
pub fn put(disk: &FakeDisk, name: &str, contents: &[u8]) {
    let path = format!("{DIRECTORY}/{name}");
    if disk.exists(&path).expect("a disk that works") {
        disk.remove_file(&path).expect("it is there");
    }
    let file = disk.open(&path, OpenMode::CreateNew).expect("a new file");
    file.write_vectored_at(&[Bytes::copy_from_slice(contents)], 0).expect("a disk that works");
    file.sync_all().expect("a disk that works");
    disk.sync_dir(DIRECTORY).expect("a disk that works");
}

/// Every file of the directory.
pub fn files(disk: &FakeDisk) -> BTreeMap<String, Bytes> {
    let names = disk.list(DIRECTORY).expect("the directory is there");
    let read = |name: String| {
        let file = disk.open(&format!("{DIRECTORY}/{name}"), OpenMode::Read).expect("a listed file");
        let contents = file.read_at(file.len().expect("a disk that works") as usize, 0);
        (name, contents.expect("a disk that works"))
    };
    names.into_iter().map(read).collect()
}

/// What recovery made of a directory.
pub struct Left {
    /// Raft's hard state.
    pub vote: Vote,
    /// The entries that can be read, from the first on.
    pub entries: Vec<Entry>,
    last: (u64, u64, u64, u64),
}

/// Recovers, and again, and again after a power cut. All must come to the same; a refusal changes nothing.
pub fn check(disk: &Arc<FakeDisk>, options: &LogOptions) -> Result<Left, RecoveryError> {
    // A seal among any bytes is not one that was written after a sync.
    let options = &LogOptions { trust_seals: false, ..options.clone() };
    let before = files(disk);
    let bytes: usize = before.values().map(Bytes::len).sum();
    let limit = ALLOWANCE_BYTES + BYTES_PER_BYTE * bytes;
    within(limit, || inspect(&**disk, DIRECTORY, &mut |_| ())).expect("a disk that works");
    if let Ok(survey) = within(limit, || Survey::take(disk.clone(), DIRECTORY, options)) {
        let runs = survey.intact();
        assert!(
            runs.is_sorted_by(|one, next| one.end() < next.start()),
            "what is intact is in order: {runs:?}"
        );
    }
    assert_eq!(files(disk), before, "looking changes nothing");
    match within(limit, || recover(disk, options)) {
        Ok((recovered, replayed)) => {
            let left = read(&recovered, &replayed);
            drop(recovered);
            for crash in [FakeDisk::kill_process, |disk: &FakeDisk| disk.restart(7)] {
                crash(disk);
                let (again, replayed) = recover(disk, options).expect("what was recovered recovers again");
                let again = read(&again, &replayed);
                assert_eq!(again.last, left.last, "recovery shows what it showed before");
                assert_eq!((again.vote, &again.entries), (left.vote, &left.entries));
            }
            Ok(left)
        }
        Err(refused) => {
            let why = refused.to_string();
            let kept = |name: &String| !name.ends_with(".segment.new");
            assert!(
                files(disk).iter().eq(before.iter().filter(|(name, _)| kept(name)))
                    || leftovers(&before, disk),
                "a refusal deletes nothing: {why}"
            );
            // A refusal makes no name durable; that the names are lost is not what is asked here.
            disk.kill_process();
            let again = recover(disk, options).err().map(|error| error.to_string());
            assert_eq!(again, Some(why), "a refusal is for good");
            Err(refused)
        }
    }
}

/// Whether all that is gone was never part of the log, and the rest is as it was.
fn leftovers(before: &BTreeMap<String, Bytes>, disk: &FakeDisk) -> bool {
    files(disk).iter().all(|(name, contents)| before.get(name) == Some(contents))
}

fn read(recovered: &Recovered, replayed: &[Entry]) -> Left {
    let (log, reader) = (&recovered.log, &recovered.reader);
    let last = (log.last_index(), log.last_term(), log.last_lsn(), log.synced_index());
    assert_eq!(log.last_index(), log.synced_index(), "all that recovery shows is durable");
    assert!(recovered.vote.commit <= log.last_index());
    let shown = replayed.last().map_or(recovered.base.index, |entry| entry.index);
    assert_eq!(shown, log.last_index(), "the replay ends where the log does");
    let mut entries: Vec<Entry> = Vec::new();
    let mut next = log.first_index();
    while next <= log.last_index() && entries.len() < ENTRIES_MAX {
        // Segments before the base are not scanned by recovery: what is wrong there shows here.
        let Ok(more) = reader.read_entries(next, log.last_index() + 1, 5000) else { break };
        assert!(!more.is_empty(), "a read of what is there makes progress");
        for entry in more {
            assert_eq!(entry.index, next, "no gap");
            entry.verify().expect("what is read was verified");
            next += 1;
            entries.push(entry);
        }
    }
    for lsn in [reader.log_start(), log.last_lsn() / 2, log.last_lsn()] {
        let _any_answer_will_do = reader.read(lsn, 1 << 16, log.last_lsn());
    }
    Left { vote: recovered.vote, entries, last }
}

/// Formats a log, so that only what is replaced differs.
pub fn formatted(options: &LogOptions) -> Arc<FakeDisk> {
    let disk = FakeDisk::new();
    super::common::create(&disk, options);
    disk
}

/// Recovers with nobody looking at the entries.
pub fn recover_silently(disk: &Arc<FakeDisk>, options: &LogOptions) -> Result<Recovered, RecoveryError> {
    Log::recover(disk.clone(), DIRECTORY, options.clone(), &mut |_: Replay<'_>| ())
}
