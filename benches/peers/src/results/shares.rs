//! What our results take of the machine's limits.

use super::{CaseResults, Results};

/// Brokers that store each record.
const REPLICAS: u32 = 3;

impl Results {
    /// A limit of the machine.
    pub(super) fn limit(&self, name: &str) -> f64 {
        self.limits[name].as_f64().unwrap_or(f64::NAN)
    }

    /// The most that was written in a second by anything that was measured: one file that is synced at the end, or syncs.
    pub(super) fn write_limit(&self) -> f64 {
        let syncs = self.limits["syncs"].as_array().map_or(&[][..], Vec::as_slice);
        let synced = syncs.iter().filter_map(|sync| sync["bytes_per_second"].as_f64());
        synced.fold(self.limit("sequential_write_bytes_per_second"), f64::max)
    }

    /// The median of a sync of about so many bytes, with three files side by side, in microseconds.
    pub(super) fn sync_p50_us(&self, group_bytes: f64) -> Option<f64> {
        let syncs = self.limits["syncs"].as_array()?;
        let with_three = syncs.iter().filter(|sync| sync["files"] == 3);
        let distance =
            |sync: &serde_json::Value| (sync["group_bytes"].as_f64().unwrap_or(1.0) / group_bytes).ln().abs();
        let nearest = with_three.min_by(|one, other| distance(one).total_cmp(&distance(other)))?;
        nearest["p50_us"].as_f64()
    }

    /// What our median takes of each limit of the machine, the greatest first. Syncs are not among them: what a group of
    /// records holds is not known from outside.
    pub(super) fn shares(&self, case: &CaseResults) -> Vec<(&'static str, f64)> {
        let Some(ours) = case.ours() else { return Vec::new() };
        let Some(rate) = ours.spread(|round| Some(round.bytes_per_second)) else { return Vec::new() };
        let (rate, replicas) = (rate.median, f64::from(REPLICAS));
        let mut shares = Vec::new();
        if let Some(cores) = self.cores {
            let brokers = ours.spread(|round| round.broker_seconds_per_gigabyte);
            let both = ours
                .spread(|round| Some(round.broker_seconds_per_gigabyte? + round.load_seconds_per_gigabyte?));
            let named = [("processor, brokers alone", brokers), ("processor, brokers and load", both)];
            let share = |cpu: f64| cpu * rate / 1e9 / cores;
            shares.extend(named.into_iter().filter_map(|(name, cpu)| Some((name, share(cpu?.median)))));
        }
        let loopback = self.limit("loopback_bytes_per_second");
        if case.is_written && !case.is_fan_out {
            // Each replica writes a record once; it comes in once and goes to two followers.
            shares.push(("disk, write", rate * replicas / self.write_limit()));
            shares.push(("loopback", rate * replicas / loopback));
            shares.push(("CRC-32C", rate * (replicas + 1.0) / self.limit("crc32c_bytes_per_second")));
        } else {
            shares.push(("loopback", rate / loopback));
        }
        shares.retain(|(_, share)| share.is_finite());
        shares.sort_by(|one, other| other.1.total_cmp(&one.1));
        shares
    }
}
