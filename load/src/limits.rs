//! What this machine can do at all: the yardstick for everything else.
//!
//! What holds:
//!
//! - Each figure is measured with the least code that can reach it: threads of the operating system, plain calls.
//! - Syncs are measured as a replica makes them: a write into a part of a file that was written before, then
//!   `fdatasync`, with one file, and with several side by side.
//! - The files are removed.

mod disk;
mod memory;
mod network;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::LoadError;
use crate::series::Latencies;

/// Files that are synced side by side, each time.
pub const FILES: [usize; 3] = [1, 3, 8];
/// Bytes written before each sync, each time.
pub const GROUP_BYTES: [u64; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];

/// How long and where to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where files are made: on the disk that the brokers use.
    pub directory: PathBuf,
    /// Time for each figure.
    pub time: Duration,
    /// Bytes written in sequence. More than the kernel keeps unwritten, to see the disk and not memory.
    pub write_bytes: u64,
}

/// Syncs of some files side by side, each after a write of some bytes.
#[derive(Debug, Clone)]
pub struct SyncLimit {
    /// Files, each with a thread of its own.
    pub files: usize,
    /// Bytes written before each sync.
    pub group_bytes: u64,
    /// How many there were in a second, of all files together.
    pub syncs_per_second: f64,
    /// How long each took, its write included.
    pub latencies: Latencies,
}

/// What this machine can do. Bytes are per second.
#[derive(Debug, Clone)]
pub struct Limits {
    /// One file written in sequence, and synced at the end.
    pub write: f64,
    /// The same file read in sequence, from the disk as far as the kernel lets go of it.
    pub read: f64,
    /// Syncs, at each size and number of files.
    pub syncs: Vec<SyncLimit>,
    /// One TCP connection on loopback, one way.
    pub loopback: f64,
    /// There and back on loopback, 2 KiB and a byte.
    pub loopback_round_trip: Latencies,
    /// CRC-32C, one thread.
    pub crc32c: f64,
    /// Copying in memory, beyond the caches, one thread.
    pub memcpy: f64,
}

/// Measures all of it. `told` hears what is measured next.
///
/// # Errors
/// The directory cannot be written to, or loopback not used.
pub fn measure(settings: &Settings, mut told: impl FnMut(&str)) -> Result<Limits, LoadError> {
    told("memory");
    let (crc32c, memcpy) = (memory::crc32c(settings.time), memory::memcpy(settings.time));
    told("loopback");
    let loopback = network::one_way(settings.time)?;
    let loopback_round_trip = network::round_trips(settings.time)?;
    told("sequential write and read");
    let (write, read) = disk::sequential(settings)?;
    let mut syncs = Vec::new();
    for group_bytes in GROUP_BYTES {
        for files in FILES {
            told(&format!("syncs of {} KiB, {files} files", group_bytes >> 10));
            syncs.push(disk::syncs(settings, files, group_bytes)?);
        }
    }
    Ok(Limits { write, read, syncs, loopback, loopback_round_trip, crc32c, memcpy })
}

/// A share of a limit that a throughput takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Which limit.
    pub limit: &'static str,
    /// The part of it that is used; 1 is all of it.
    pub share: f64,
}

impl Limits {
    /// The syncs with so many files, at the measured size nearest to `group_bytes`.
    #[must_use]
    pub fn sync(&self, files: usize, group_bytes: u64) -> Option<&SyncLimit> {
        let distance = |sync: &&SyncLimit| {
            let ratio = sync.group_bytes as f64 / group_bytes.max(1) as f64;
            (ratio.ln().abs() * 1e6) as u64
        };
        self.syncs.iter().filter(|sync| sync.files == files).min_by_key(distance)
    }

    /// What so many bytes of records a second take of each limit when `replicas` brokers on this machine store them:
    /// each replica writes them once; the network carries them in, and to each follower.
    #[must_use]
    pub fn shares(&self, bytes_per_second: f64, replicas: u32) -> Vec<Share> {
        let replicas = f64::from(replicas);
        let share = |limit, used: f64, of: f64| Share { limit, share: used / of.max(1.0) };
        vec![
            share("disk: sequential write", bytes_per_second * replicas, self.write),
            share("loopback", bytes_per_second * replicas, self.loopback),
            // The client, the leader and each follower compute it once.
            share("CRC-32C", bytes_per_second * (replicas + 1.0), self.crc32c),
        ]
    }

    /// All of it.
    #[must_use]
    pub fn json(&self) -> Value {
        let latencies = |latencies: &Latencies| {
            json!({
                "p50_us": latencies.percentile(50.0).as_micros() as u64,
                "p99_us": latencies.percentile(99.0).as_micros() as u64,
            })
        };
        let syncs = self.syncs.iter().map(|sync| {
            let mut json = latencies(&sync.latencies);
            json["files"] = json!(sync.files);
            json["group_bytes"] = json!(sync.group_bytes);
            json["syncs_per_second"] = json!(sync.syncs_per_second);
            json["bytes_per_second"] = json!(sync.bytes_per_second());
            json
        });
        json!({
            "sequential_write_bytes_per_second": self.write,
            "sequential_read_bytes_per_second": self.read,
            "syncs": syncs.collect::<Vec<_>>(),
            "loopback_bytes_per_second": self.loopback,
            "loopback_round_trip": latencies(&self.loopback_round_trip),
            "crc32c_bytes_per_second": self.crc32c,
            "memcpy_bytes_per_second": self.memcpy,
        })
    }
}

impl SyncLimit {
    /// Bytes made durable in a second, of all files together.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        self.syncs_per_second * self.group_bytes as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_measured_and_no_file_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            directory: directory.path().to_owned(),
            time: Duration::from_millis(5),
            write_bytes: 4 << 20,
        };
        let mut steps = 0;
        let limits = measure(&settings, |_| steps += 1).unwrap();
        for figure in [limits.write, limits.read, limits.loopback, limits.crc32c, limits.memcpy] {
            assert!(figure.is_finite() && figure > 0.0, "{limits:?}");
        }
        assert_eq!(limits.syncs.len(), FILES.len() * GROUP_BYTES.len());
        assert!(limits.syncs.iter().all(|sync| sync.latencies.count() >= sync.files as u64));
        assert!(limits.loopback_round_trip.count() > 0);
        assert!(steps > 3);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_nearest_size_is_found_and_shares_add_the_replicas_up() {
        let sync = |files, group_bytes| SyncLimit {
            files,
            group_bytes,
            syncs_per_second: 1.0,
            latencies: Latencies::default(),
        };
        let limits = Limits {
            write: 300.0,
            read: 1.0,
            syncs: vec![sync(3, 4 << 10), sync(3, 64 << 10), sync(1, 64 << 10)],
            loopback: 3_000.0,
            loopback_round_trip: Latencies::default(),
            crc32c: 40_000.0,
            memcpy: 1.0,
        };
        assert_eq!(limits.sync(3, 40 << 10).unwrap().group_bytes, 64 << 10);
        assert_eq!(limits.sync(3, 1).unwrap().group_bytes, 4 << 10);
        assert!(limits.sync(8, 1).is_none());
        let shares: Vec<f64> = limits.shares(100.0, 3).iter().map(|share| share.share).collect();
        assert_eq!(shares, [1.0, 0.1, 0.01]);
    }

    #[test]
    fn a_directory_that_is_not_there_is_named_as_the_reason() {
        let settings = Settings {
            directory: "/nowhere/at/all".into(),
            time: Duration::from_millis(1),
            write_bytes: 1 << 20,
        };
        let error = measure(&settings, |_| {}).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }
}
