//! The checker's judgement of a run: every acknowledged send, held against what every replica holds.
//!
//! ```text
//!  sends, by their LSNs ──────────────┐
//!  what a subscriber was shown ───────┤
//!  each replica's log, read again ────┴─▶ some hundred thousand records at a time ─▶ every rule
//! ```
//!
//! What holds:
//! - A partition is judged a window of its log at a time, so that a long run needs no more memory than a short one. A window
//!   ends where a batch does. Only real time between two windows is not compared.
//! - Sends of which too many were made to be kept count as made, with an unknown outcome.
//! - A replica that cannot be read is counted, not taken for a violation: one broker may be away.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use lockstep_checker::{
    Append, AppendOutcome, FinalState, History, Operation, Read, RecordId, ReplicaLog, Trim, check,
};
use lockstep_client::{Client, ConsumeError, ConsumedBatch, ConsumedRecord, Consumer, Start};

use crate::error::LoadError;
use crate::key;
use crate::lane::{Acknowledged, Sent};
use crate::plan::STAMP_BYTES;

/// Records judged at once.
const WINDOW_RECORDS: u64 = 200_000;
/// How long a replica may show nothing.
const PATIENCE: Duration = Duration::from_secs(15);
/// Who stands for everybody else that writes to a topic.
const STRANGER: u64 = u64::MAX;

/// What one lane sent to its partition.
pub(crate) struct LaneSends {
    pub(crate) lane: u32,
    pub(crate) partition: u32,
    pub(crate) acknowledged: Acknowledged,
}

/// How much was held against the rules, and found to keep them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Acknowledged records with their LSNs.
    pub acknowledged_records: u64,
    /// Records of the replicas' logs, all replicas together.
    pub replica_records: u64,
    /// Replicas that were read, of all partitions together.
    pub replicas: u64,
    /// Replicas that could not be read.
    pub replicas_unread: u64,
}

impl Checked {
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged_records += other.acknowledged_records;
        self.replica_records += other.replica_records;
        self.replicas += other.replicas;
        self.replicas_unread += other.replicas_unread;
    }
}

/// What a partition's logs are to be read for.
pub(crate) struct Audit<'a> {
    pub(crate) client: &'a Client,
    pub(crate) topic: &'a str,
    pub(crate) tag: u32,
    /// Whether nobody else writes to the topic.
    pub(crate) is_ours: bool,
    pub(crate) records_per_send: u32,
    /// What each value is, but for its stamp.
    pub(crate) filler: &'a Bytes,
    pub(crate) is_stamped: bool,
}

impl Audit<'_> {
    /// Judges a partition from `from_lsn` on. `told` hears of the records judged so far.
    pub(crate) async fn partition(
        &self,
        partition: u32,
        from_lsn: u64,
        lanes: &[LaneSends],
        seen: &mut Vec<Read>,
        told: &mut dyn FnMut(u64),
    ) -> Result<Checked, LoadError> {
        let tail = self.client.tail(self.topic, partition, true).await?.high_watermark;
        let replicas = self.replicas(partition).await?;
        let (mut copies, mut start) = self.open_copies(partition, &replicas, from_lsn).await;
        let mut checked = Checked::default();
        let mut sends = Sends::of(lanes, partition, self.records_per_send);
        if start == from_lsn
            && let Some(first) = sends.before(from_lsn).next()
        {
            let lsn = first.sent.first_lsn;
            return Err(LoadError::Violation(format!(
                "LSN {lsn} of partition {partition} was acknowledged, and the log had ended behind it before the run"
            )));
        }
        loop {
            let (end, state) = self.window(&mut copies, start, tail).await?;
            if copies.is_empty() {
                return Err(LoadError::Unread { partition });
            }
            let is_last = end >= tail || state.replicas.iter().all(|log| log.count() == 0);
            let end = if is_last { u64::MAX } else { end };
            let history = sends.history(&state, start..=end, seen);
            let verdict = check(&history, &state);
            if let Some(violation) = verdict.violations.first() {
                let total = verdict.violations_total();
                return Err(LoadError::Violation(format!("{violation} ({total} in partition {partition})")));
            }
            checked.acknowledged_records += verdict.summary.acknowledged_records_found;
            checked.replica_records += state.replicas.iter().map(ReplicaLog::count).sum::<u64>();
            told(checked.replica_records);
            if is_last {
                checked.replicas = copies.len() as u64;
                checked.replicas_unread = (replicas.len() - copies.len()) as u64;
                return Ok(checked);
            }
            start = end + 1;
        }
    }

    /// Where a partition's replicas are.
    async fn replicas(&self, partition: u32) -> Result<Vec<u64>, LoadError> {
        let mut described = self.client.describe_topic(self.topic).await?.topic;
        let route = described.partitions.get_mut(partition as usize);
        Ok(route.map(|route| std::mem::take(&mut route.replicas)).unwrap_or_default())
    }

    /// A reader of each replica that can be read, all from the same LSN on: the first that every one of them keeps.
    async fn open_copies(&self, partition: u32, replicas: &[u64], from_lsn: u64) -> (Vec<Copy>, u64) {
        let mut starts = BTreeMap::new();
        for node in replicas {
            if let Ok(tail) = self.client.tail_of_node(*node, self.topic, partition).await {
                starts.insert(*node, tail.log_start);
            }
        }
        let next_lsn = starts.values().copied().max().unwrap_or(0).max(from_lsn);
        let mut copies = Vec::new();
        for node in starts.into_keys() {
            let consumer = self.client.consumer(self.topic).partition(partition).only_from_node(node);
            if let Ok(consumer) = consumer.from(Start::Lsn(next_lsn)).open().await {
                copies.push(Copy { node, consumer, next_lsn, is_broken: false });
            }
        }
        (copies, next_lsn)
    }

    /// The next window of every copy, and its last LSN. Copies that cannot be read any more are left out from then on.
    async fn window(
        &self,
        copies: &mut Vec<Copy>,
        start: u64,
        tail: u64,
    ) -> Result<(u64, FinalState), LoadError> {
        let mut end = start.saturating_add(WINDOW_RECORDS - 1).min(tail);
        let mut state = FinalState::default();
        for mut copy in std::mem::take(copies) {
            let Some(log) = copy.read(start, end, |log, batch| self.push(log, batch)).await? else {
                continue;
            };
            // The first copy says where a batch ends; the others have to agree.
            end = if state.replicas.is_empty() { log.commit } else { end };
            state.replicas.push(log);
            copies.push(copy);
        }
        Ok((end, state))
    }

    /// Adds a batch to a log, send by send: the client may have put several into one.
    fn push(&self, log: &mut ReplicaLog, batch: &ConsumedBatch) {
        let ids = self.ids(batch);
        if self.records_per_send > 1 {
            return log.push_batch(batch.first_lsn, ids);
        }
        for (lsn, id) in (batch.first_lsn..).zip(ids) {
            log.push_batch(lsn, [id]);
        }
    }

    /// Whose the records of a batch are.
    fn ids(&self, batch: &ConsumedBatch) -> Vec<RecordId> {
        let stamped = if self.is_stamped { STAMP_BYTES } else { 0 };
        let id = |(lsn, record): (u64, Result<ConsumedRecord, ConsumeError>)| {
            let Ok(record) = record else { return RecordId::FOREIGN };
            let value = record.value.as_deref().and_then(|value| value.get(stamped..));
            match key::id(record.key.as_deref(), self.tag) {
                Some(id) if value == self.filler.get(stamped..) => id,
                None if !self.is_ours => RecordId::new(STRANGER, lsn, 0),
                _ => RecordId::FOREIGN,
            }
        };
        (batch.first_lsn..).zip(batch.records()).map(id).collect()
    }
}

/// One replica's log, read on and on.
struct Copy {
    node: u64,
    consumer: Consumer,
    next_lsn: u64,
    /// Whether the client refused what came: there is no more.
    is_broken: bool,
}

impl Copy {
    /// The log from `start` on through the batch in which `end` is; nothing if it cannot be read.
    async fn read(
        &mut self,
        start: u64,
        end: u64,
        push: impl Fn(&mut ReplicaLog, &ConsumedBatch),
    ) -> Result<Option<ReplicaLog>, LoadError> {
        let mut log = ReplicaLog::new(self.node, start, start - 1);
        while self.next_lsn <= end && !self.is_broken {
            let Ok(Some(next)) = tokio::time::timeout(PATIENCE, self.consumer.next_batch()).await else {
                return Ok(None);
            };
            match next {
                Ok(batch) => {
                    push(&mut log, &batch);
                    log.commit = batch.last_lsn;
                    self.next_lsn = batch.last_lsn + 1;
                }
                // What the client refuses to hand on is for the checker to name.
                Err(ConsumeError::Gap { expected, found, .. }) => {
                    log.commit = found.max(expected);
                    self.is_broken = true;
                }
                Err(error @ ConsumeError::Damaged { .. }) => {
                    return Err(LoadError::Violation(format!("broker {}: {error}", self.node)));
                }
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(log))
    }
}

/// The sends to one partition, by their LSNs.
struct Sends {
    records_per_send: u32,
    by_lsn: Vec<Send>,
    next: usize,
    /// Per client, how many were sent and how many of those are kept.
    counts: BTreeMap<u64, (u64, u64)>,
}

/// A send, and whose it is.
#[derive(Clone, Copy)]
struct Send {
    client: u64,
    number: u64,
    sent: Sent,
}

impl Sends {
    fn of(lanes: &[LaneSends], partition: u32, records_per_send: u32) -> Self {
        let ours = || lanes.iter().filter(|lane| lane.partition == partition);
        let of_lane = |lane: &LaneSends| (lane.acknowledged.sends, lane.acknowledged.kept.len() as u64);
        let mut by_lsn = Vec::new();
        for lane in ours() {
            let client = key::client(lane.lane);
            let numbered = (1..).zip(&lane.acknowledged.kept);
            by_lsn.extend(numbered.map(|(number, sent)| Send { client, number, sent: *sent }));
        }
        by_lsn.sort_unstable_by_key(|send| (send.sent.first_lsn, send.client, send.number));
        let counts = ours().map(|lane| (key::client(lane.lane), of_lane(lane))).collect();
        Self { records_per_send, by_lsn, next: 0, counts }
    }

    /// What happened within some LSNs of a partition.
    fn history(&mut self, state: &FinalState, lsns: RangeInclusive<u64>, seen: &mut Vec<Read>) -> History {
        let mut history = History::default();
        if *lsns.start() > 1 {
            history.push(Operation::Trim(Trim { invoked: 0, before_lsn: *lsns.start() }));
        }
        let mut told = BTreeSet::new();
        for send in self.within(&lsns) {
            told.insert((send.client, send.number));
            history.push(Operation::Append(send.append(self.records_per_send)));
        }
        let stored: BTreeSet<_> = state.replicas.iter().flat_map(ReplicaLog::batches).collect();
        for (client, number) in stored.difference(&told).copied() {
            let records = match client {
                STRANGER => 1,
                _ if self.has_unkept(client, number) => self.records_per_send,
                _ => continue,
            };
            history.push(Operation::Append(Append::invoked(client, number, records, 0)));
        }
        let shown = seen.extract_if(.., |read| lsns.contains(&read.from_lsn));
        for (place, read) in shown.enumerate() {
            history.push(Operation::Read(Read { continues: place > 0, ..read }));
        }
        history
    }

    fn before(&self, lsn: u64) -> impl Iterator<Item = &Send> {
        self.by_lsn.iter().take_while(move |send| send.sent.first_lsn < lsn)
    }

    /// Those within some LSNs; each is returned once.
    fn within(&mut self, lsns: &RangeInclusive<u64>) -> Vec<Send> {
        let rest = &self.by_lsn[self.next..];
        let below = rest.iter().take_while(|send| send.sent.first_lsn < *lsns.start()).count();
        let within = rest[below..].iter().take_while(|send| lsns.contains(&send.sent.first_lsn)).count();
        self.next += below + within;
        rest[below..below + within].to_vec()
    }

    /// Whether a client made a send of this number, of which nothing more is known.
    fn has_unkept(&self, client: u64, number: u64) -> bool {
        self.counts.get(&client).is_some_and(|(sends, kept)| number > *kept && number <= *sends)
    }
}

impl Send {
    fn append(&self, records: u32) -> Append {
        let Sent { first_lsn, began, ended } = self.sent;
        let last_lsn = first_lsn + u64::from(records) - 1;
        let outcome = AppendOutcome::Acknowledged { first_lsn, last_lsn, duplicate: false };
        let asked = Append::invoked(self.client, self.number, records, began);
        Append { completed: ended.max(began), outcome, ..asked }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_checker::Rule;

    use super::*;

    const RECORDS: u32 = 2;

    /// Two lanes that took turns: sends of two records each, from LSN 11 on; of the second, only some are kept.
    fn lanes(kept: usize) -> Vec<LaneSends> {
        let lane = |lane: u32| {
            let sent = |number: u64| Sent {
                first_lsn: 11 + 4 * number + 2 * u64::from(lane),
                began: number * 10,
                ended: number * 10 + 5,
            };
            let mut kept_sends: Vec<Sent> = (0..3).map(sent).collect();
            kept_sends.truncate(if lane == 1 { kept } else { 3 });
            LaneSends {
                lane,
                partition: 0,
                acknowledged: Acknowledged { sends: 3, records: 6, kept: kept_sends },
            }
        };
        vec![lane(0), lane(1)]
    }

    fn log(batches: &[(u32, u64)]) -> ReplicaLog {
        let mut log = ReplicaLog::new(1, 11, 10 + 2 * batches.len() as u64);
        for ((lane, number), first_lsn) in batches.iter().zip((11..).step_by(2)) {
            let id = |index| RecordId::new(key::client(*lane), *number, index);
            log.push_batch(first_lsn, (0..RECORDS).map(id));
        }
        log
    }

    const WHOLE: [(u32, u64); 6] = [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3)];

    fn rules(kept: usize, batches: &[(u32, u64)]) -> Vec<Rule> {
        let state = FinalState { replicas: vec![log(batches)] };
        let mut sends = Sends::of(&lanes(kept), 0, RECORDS);
        check(&sends.history(&state, 11..=u64::MAX, &mut Vec::new()), &state).rules()
    }

    #[test]
    fn a_run_that_is_as_it_was_acknowledged_passes_kept_or_not() {
        assert_eq!(rules(3, &WHOLE), []);
        assert_eq!(rules(1, &WHOLE), []);
    }

    #[test]
    fn a_loss_a_repetition_an_exchange_and_an_invention_are_each_caught() {
        assert_eq!(rules(3, &WHOLE[..5]), [Rule::AcknowledgedKept]);
        let repeated = [&WHOLE[..], &[(0, 3)]].concat();
        assert!(rules(3, &repeated).contains(&Rule::BatchOnce));
        let mut exchanged = WHOLE;
        exchanged.swap(0, 1);
        assert!(rules(3, &exchanged).contains(&Rule::AcknowledgedInPlace));
        // Nobody made a fourth send, and of those that are not kept there are but three.
        assert!(rules(1, &[&WHOLE[..], &[(1, 4)]].concat()).contains(&Rule::NothingInvented));
    }

    #[test]
    fn each_window_has_its_own_sends_and_the_last_one_the_rest() {
        let mut sends = Sends::of(&lanes(3), 0, RECORDS);
        let lsns = |sends: Vec<Send>| sends.iter().map(|send| send.sent.first_lsn).collect::<Vec<_>>();
        assert_eq!(lsns(sends.within(&(11..=14))), [11, 13]);
        assert_eq!(lsns(sends.within(&(15..=u64::MAX))), [15, 17, 19, 21]);
        assert_eq!(sends.before(12).count(), 1);
    }
}
