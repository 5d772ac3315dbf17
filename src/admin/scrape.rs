//! `/metrics`: what is summed over the local replicas at each scrape, and the series per partition for who asks.

use super::control::{Control, ShardSample};
use crate::metrics::{self, SHARD_HEALTHS, ShardTotals};

/// The answer to a scrape.
pub(super) async fn render<C: Control>(control: &C, with_partitions: bool) -> String {
    let samples = control.samples().await;
    for health in SHARD_HEALTHS {
        metrics::shards_by_health(health, samples.iter().filter(|sample| sample.health == health).count());
    }
    metrics::shard_totals(totals(&samples));
    if let Some(bytes) = control.disk_free_bytes() {
        metrics::disk_free(bytes);
    }
    let mut text = metrics::render();
    if with_partitions {
        let partitions: Vec<_> = samples.into_iter().filter_map(|sample| sample.partition).collect();
        text.push_str(&metrics::render_partitions(&partitions));
    }
    text
}

fn totals(samples: &[ShardSample]) -> ShardTotals {
    let mut totals = ShardTotals::default();
    for sample in samples {
        totals.leaders += u64::from(sample.is_leader);
        totals.leaderless += u64::from(!sample.has_leader);
        totals.lag_entries += sample.lag_entries;
        totals.log_bytes += sample.log_bytes;
        totals.moving += u64::from(sample.is_moving);
        totals.catch_up_bytes += sample.catch_up_bytes;
    }
    totals
}
