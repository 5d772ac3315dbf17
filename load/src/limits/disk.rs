//! Writes, reads and syncs of files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::{Settings, SyncLimit};
use crate::error::LoadError;
use crate::series::Latencies;

/// Bytes in each write and read in sequence.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of each file that is synced: written before, and then over and over.
const SYNCED_FILE_BYTES: u64 = 16 << 20;

/// A file that is removed when it is dropped.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    fn new(directory: &Path, number: usize) -> io::Result<Self> {
        let path = directory.join(format!("lockstep-limits-{}-{number}", std::process::id()));
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
        Ok(Self { file, path })
    }

    /// A file of bytes that are on the disk.
    fn written(directory: &Path, number: usize, bytes: u64) -> io::Result<Self> {
        let scratch = Self::new(directory, number)?;
        scratch.fill(bytes)?;
        scratch.file.sync_all()?;
        Ok(scratch)
    }

    fn fill(&self, bytes: u64) -> io::Result<()> {
        let chunk = vec![0x5A_u8; CHUNK_BYTES];
        let mut left = bytes;
        while left > 0 {
            let len = left.min(chunk.len() as u64);
            (&self.file).write_all(&chunk[..usize::try_from(len).unwrap_or(CHUNK_BYTES)])?;
            left -= len;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing is lost if it stays.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Bytes a second, written and then read.
pub(super) fn sequential(settings: &Settings) -> Result<(f64, f64), LoadError> {
    let bytes = settings.write_bytes.max(CHUNK_BYTES as u64);
    let run = || -> io::Result<(f64, f64)> {
        let scratch = Scratch::new(&settings.directory, 0)?;
        let started = Instant::now();
        scratch.fill(bytes)?;
        scratch.file.sync_data()?;
        let write = bytes as f64 / started.elapsed().as_secs_f64();
        rustix::fs::fadvise(&scratch.file, 0, None, rustix::fs::Advice::DontNeed)?;
        let mut file = File::open(&scratch.path)?;
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        let started = Instant::now();
        while file.read(&mut chunk)? > 0 {}
        Ok((write, bytes as f64 / started.elapsed().as_secs_f64()))
    };
    run().map_err(LoadError::system("writing and reading in sequence"))
}

/// Writes and syncs some files side by side.
pub(super) fn syncs(settings: &Settings, files: usize, group_bytes: u64) -> Result<SyncLimit, LoadError> {
    let run = || -> io::Result<SyncLimit> {
        let scratches =
            (0..files).map(|number| Scratch::written(&settings.directory, number, SYNCED_FILE_BYTES));
        let scratches = scratches.collect::<io::Result<Vec<_>>>()?;
        let (start, time) = (Barrier::new(files), settings.time);
        let each = thread::scope(|scope| {
            let spawn = |scratch| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    sync_over_and_over(scratch, group_bytes, time)
                })
            };
            let threads: Vec<_> = scratches.iter().map(spawn).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, io::Result<_>>| {
                thread.join().map_err(|_| io::Error::other("a thread died"))?
            };
            threads.into_iter().map(join).collect::<io::Result<Vec<(Latencies, Duration)>>>()
        })?;
        let mut latencies = Latencies::default();
        let mut syncs_per_second = 0.0;
        for (of_one, time) in &each {
            latencies.add(of_one);
            syncs_per_second += of_one.count() as f64 / time.as_secs_f64();
        }
        Ok(SyncLimit { files, group_bytes, syncs_per_second, latencies })
    };
    run().map_err(LoadError::system("writing and syncing"))
}

fn sync_over_and_over(
    scratch: &Scratch,
    group_bytes: u64,
    time: Duration,
) -> io::Result<(Latencies, Duration)> {
    let group = vec![0xC3_u8; usize::try_from(group_bytes).unwrap_or(CHUNK_BYTES)];
    let (started, mut latencies, mut place) = (Instant::now(), Latencies::default(), 0);
    while latencies.count() == 0 || started.elapsed() < time {
        let began = Instant::now();
        scratch.file.write_all_at(&group, place)?;
        scratch.file.sync_data()?;
        latencies.record(began.elapsed(), 1);
        place = (place + group_bytes) % (SYNCED_FILE_BYTES - group_bytes);
    }
    Ok((latencies, started.elapsed()))
}
