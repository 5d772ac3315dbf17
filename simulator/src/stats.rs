//! What a run went through: so that a campaign can show that it was not spent on idling.

use std::collections::BTreeMap;

use crate::queue::Time;

/// The counters of one run, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Runs.
    pub seeds: u64,
    /// Virtual time in which something was under way.
    pub busy: Time,
    /// Virtual time in which everything waited for a timer.
    pub idle: Time,
    /// Events.
    pub events: u64,
    /// Entries that were committed: batches, and the few without records.
    pub entries: u64,
    /// Records in them.
    pub records: u64,
    /// Batches that were acknowledged to a client.
    pub acknowledged: u64,
    /// Records shown to readers.
    pub records_read: u64,
    /// Records shown to subscribers, of those.
    pub records_pushed: u64,
    /// Subscriptions that were opened.
    pub subscriptions: u64,
    /// Processes that died, the power on.
    pub kills: u64,
    /// Machines that lost power.
    pub power_cuts: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Suffixes rolled back.
    pub truncations: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Faults that took effect, by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// Counts a fault that took effect.
    pub fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    /// Adds another run's counters.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.busy += other.busy;
        self.idle += other.idle;
        self.events += other.events;
        self.entries += other.entries;
        self.records += other.records;
        self.acknowledged += other.acknowledged;
        self.records_read += other.records_read;
        self.records_pushed += other.records_pushed;
        self.subscriptions += other.subscriptions;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.elections += other.elections;
        self.truncations += other.truncations;
        self.snapshots += other.snapshots;
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
    }

    /// Machines and processes that went down.
    pub fn crashes(&self) -> u64 {
        self.kills + self.power_cuts
    }
}
