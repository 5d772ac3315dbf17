//! How a run ends: faults stop, everything must commit again within bounds, and the logs are judged.

use lockstep::engine::METADATA_SHARD;
use lockstep_checker::{FinalState, RecordId, ReplicaLog};
use lockstep_protocol::RecordIter;
use lockstep_storage::{CachedRead, ReadError};

use crate::client::{Client, Subscriber};
use crate::queue::{MILLISECOND, SECOND, Time};
use crate::replica::Replica;
use crate::server::shard_of;
use crate::world::World;

/// How long the cluster may take to work again once all faults have stopped.
const RECOVERY_MAX: Time = 120 * SECOND;
/// How long moves go on beside the writers once the faults have stopped.
const MOVES_UNDER_LOAD: Time = SECOND;
/// How often that is looked at.
const LOOK_EVERY: Time = 50 * MILLISECOND;

impl World {
    /// The whole run.
    pub fn run(&mut self) {
        self.run_until(self.plan.safety_ms * MILLISECOND);
        self.end_faults();
        let calm_since = self.queue.now();
        self.wait_for("every-writer-is-answered", calm_since, |world| world.unanswered(calm_since));
        if self.plan.moves() || self.plan.brokers {
            self.run_until(self.queue.now() + MOVES_UNDER_LOAD);
        }
        self.working = false;
        self.wait_for("every-batch-is-settled", calm_since, Self::unsettled);
        // A leader that votes alone may write faster than any network brings it to a new replica.
        if self.plan.moves() {
            self.wait_for("moves-end", calm_since, Self::moving);
        }
        if self.plan.brokers {
            self.wait_for("brokers-settle", calm_since, Self::unsettled_brokers);
        }
        self.wait_for("replicas-converge", calm_since, Self::diverging);
        self.repair_what_is_left();
        self.wait_for("subscribers-catch-up", self.queue.now(), Self::behind);
        self.judge();
        let (entries, records) = self.invariants.committed();
        self.ledger.count(&mut self.stats);
        self.stats.subscriptions = self.subscribers().map(Subscriber::opened).sum();
        self.stats.entries = entries;
        self.stats.records = records;
        self.stats.idle = self.queue.idle();
        self.stats.busy = self.queue.now() - self.queue.idle();
    }

    /// Lets things happen until nothing is missing any more; it is a violation if that takes too long.
    fn wait_for(&mut self, rule: &'static str, since: Time, missing: impl Fn(&Self) -> Option<String>) {
        while self.violation.is_none() {
            let Some(what) = missing(self) else { return };
            if self.queue.now() > since + RECOVERY_MAX {
                return self
                    .violate(rule, format!("{} s after the faults stopped: {what}", RECOVERY_MAX / SECOND));
            }
            self.run_until(self.queue.now() + LOOK_EVERY);
        }
    }

    /// The scrub finds damage in segments that are closed, and recovery that in the last one: nodes that still have any
    /// are started anew.
    fn repair_what_is_left(&mut self) {
        self.scrub_all();
        for node in self.damaged() {
            self.kill(node, MILLISECOND);
        }
        let since = self.queue.now();
        self.wait_for("damage-is-repaired", since, |world| world.unrepaired().into_values().next());
        self.wait_for("replicas-converge", since, Self::diverging);
        self.scrub_all();
        self.wait_for("replicas-converge", self.queue.now(), Self::diverging);
    }

    fn scrub_all(&mut self) {
        self.begin_scrubs();
        self.wait_for("scrub-ends", self.queue.now(), Self::unscrubbed);
    }

    fn unanswered(&self, since: Time) -> Option<String> {
        let waits = |(number, client): (usize, &Client)| match client {
            Client::Writer(writer) if writer.answered_at() <= since => {
                Some(format!("client {number} got no answer; {}", writer.state()))
            }
            _ => None,
        };
        self.clients.iter().enumerate().find_map(waits)
    }

    fn unsettled(&self) -> Option<String> {
        let open = self.clients.iter().position(|client| !client.is_done());
        open.map(|number| format!("client {number} still waits for a batch's fate"))
    }

    fn subscribers(&self) -> impl Iterator<Item = &Subscriber> {
        self.clients.iter().filter_map(|client| match client {
            Client::Subscriber(subscriber) => Some(&**subscriber),
            _ => None,
        })
    }

    fn behind(&self) -> Option<String> {
        self.subscribers().find_map(|subscriber| {
            let (partition, next_lsn) = subscriber.next();
            let committed = self.invariants.committed_lsn(shard_of(partition));
            (next_lsn <= committed).then(|| {
                let state = subscriber.state();
                format!(
                    "a subscriber of partition {partition} waits for LSN {next_lsn} of {committed}: {state}"
                )
            })
        })
    }

    fn diverging(&self) -> Option<String> {
        let metadata = self.plan.brokers.then_some(METADATA_SHARD);
        for shard in (0..self.plan.shards).map(shard_of).chain(metadata) {
            let mut ends = Vec::new();
            let holders = match self.plan.brokers {
                true => self.hosts(shard),
                false => self.holders(shard).collect(),
            };
            for id in holders {
                let process = self.nodes[&id].process.as_ref();
                let Some(hosted) = process.and_then(|process| process.hosted.get(&shard)) else {
                    return Some(format!("node {id} does not host shard {shard}"));
                };
                let Some(log) = hosted.replica.log() else {
                    return Some(format!(
                        "shard {shard} is not open on node {id}: {:?}",
                        hosted.replica.view().health
                    ));
                };
                ends.push((
                    log.last_index(),
                    log.last_chain(),
                    log.commit(),
                    hosted.replica.view().high_watermark,
                ));
            }
            let equal = ends.windows(2).all(|pair| pair[0] == pair[1]);
            if !equal || ends.iter().any(|(last, _, commit, _)| last != commit) {
                return Some(format!("the replicas of shard {shard} end differently: {ends:?}"));
            }
        }
        None
    }

    /// Reads every replica whole and lets the checker judge each partition.
    fn judge(&mut self) {
        for partition in 0..self.plan.shards {
            let shard = shard_of(partition);
            let mut last = FinalState::default();
            for (id, node) in &self.nodes {
                let Some(hosted) = node.process.as_ref().and_then(|process| process.hosted.get(&shard))
                else {
                    continue;
                };
                match read_whole(*id, &hosted.replica) {
                    Ok(log) => last.replicas.push(log),
                    Err(why) => {
                        let message = format!("node {id} cannot read shard {shard}: {why}");
                        return self.violate("log-reads", message);
                    }
                }
            }
            let verdict = self.ledger.check(partition, &last);
            if let Some(violation) = verdict.violations.first() {
                let (rule, message) = (violation.rule.name(), format!("shard {shard}: {violation}"));
                return self.violate(rule, message);
            }
            let figures = verdict.summary.figures();
            self.trace
                .note(self.queue.now(), None, "judged", [shard], || format!("shard {shard}: {figures:?}"));
        }
    }
}

/// A replica's committed records, from memory where they are and from its files otherwise.
fn read_whole(node: u64, replica: &Replica) -> Result<ReplicaLog, String> {
    let view = replica.view();
    let (reader, _) = replica.reader().ok_or("its log is not open")?;
    let mut log = ReplicaLog::new(node, view.log_start, view.high_watermark);
    let mut next = view.log_start.max(1);
    while next <= view.high_watermark {
        let batches = match reader.read(next, usize::MAX, view.high_watermark) {
            Ok(batches) => batches,
            // Not synced here yet: in memory.
            Err(ReadError::AtEnd) => match reader.cached(next, usize::MAX, view.high_watermark) {
                CachedRead::Hit(batches) => batches,
                other => return Err(format!("LSN {next} is neither on disk nor in memory: {other:?}")),
            },
            Err(error) => return Err(error.to_string()),
        };
        for batch in batches {
            next = batch.last_lsn() + 1;
            let records = RecordIter::new(batch.bytes.clone()).map_err(|error| error.to_string())?;
            let ids: Vec<RecordId> = records
                .map(|record| {
                    let value = record.ok().and_then(|record| record.record.value);
                    value.and_then(|value| RecordId::parse(&value)).unwrap_or(RecordId::FOREIGN)
                })
                .collect();
            log.push_batch(batch.first_lsn, ids);
        }
    }
    Ok(log)
}
