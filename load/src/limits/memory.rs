//! Checksums and copies.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Fits into a core's cache, as a batch does that has just come in.
const IN_CACHE_BYTES: usize = 256 << 10;
/// Fits into no cache.
const BEYOND_CACHES_BYTES: usize = 64 << 20;

/// CRC-32C: bytes a second.
pub(super) fn crc32c(time: Duration) -> f64 {
    let buffer = vec![0xA5_u8; IN_CACHE_BYTES];
    rate(time, buffer.len(), || {
        black_box(crc32c::crc32c(black_box(&buffer)));
    })
}

/// Copying: bytes a second.
pub(super) fn memcpy(time: Duration) -> f64 {
    let from = vec![1_u8; BEYOND_CACHES_BYTES];
    let mut to = vec![2_u8; BEYOND_CACHES_BYTES];
    rate(time, from.len(), || {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
    })
}

fn rate(time: Duration, bytes: usize, mut work: impl FnMut()) -> f64 {
    let (started, mut times) = (Instant::now(), 0_u32);
    while times == 0 || started.elapsed() < time {
        work();
        times += 1;
    }
    f64::from(times) * bytes as f64 / started.elapsed().as_secs_f64()
}
