//! Reading what nobody reads: rot in a sealed segment is found while other replicas still have what it destroys.
//!
//! One shard after the other, for ever, at a pace that leaves the disk to others. What is found goes to the replica,
//! which takes no further part until its peers have given it back.

use std::{sync::Weak, time::Duration};

use lockstep_storage::reader::{ReadError, ScrubCursor};

use super::{Engine, Inner, PartitionHandle, blocking};
use crate::metrics;

/// Bytes verified at a time.
const CHUNK_BYTES: u64 = 1 << 20;
/// The pause between two rounds over all shards.
const ROUND_PAUSE: Duration = Duration::from_secs(60);

/// Scrubs the shards of an engine until it is gone, about `bytes_per_second` fast.
pub(super) async fn run(engine: Weak<Inner>, bytes_per_second: u64) {
    loop {
        let Some(inner) = engine.upgrade() else { return };
        let handles = Engine { inner }.shards();
        for handle in handles {
            scrub(&handle, bytes_per_second).await;
        }
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

async fn scrub(handle: &PartitionHandle, bytes_per_second: u64) {
    let mut cursor = ScrubCursor::default();
    while let Some(reader) = handle.reader() {
        match blocking(move || reader.scrub(cursor, CHUNK_BYTES)).await {
            Ok(scrubbed) => {
                metrics::scrubbed(scrubbed.verified_bytes);
                let pause = scrubbed.verified_bytes as f64 / bytes_per_second.max(1) as f64;
                tokio::time::sleep(Duration::from_secs_f64(pause)).await;
                match scrubbed.next {
                    Some(next) => cursor = next,
                    None => return,
                }
            }
            Err(ReadError::Damaged(damage)) => {
                metrics::scrub_found_damage();
                tracing::error!(shard = handle.shard(), %damage, "the scrub found damage");
                return handle.report_damage(damage.to_string());
            }
            // Dropped by retention meanwhile, or the disk does not answer: the next round looks again.
            Err(_) => return,
        }
    }
}
