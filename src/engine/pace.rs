//! How fast the log is read for new replicas elsewhere: slowly enough that clients keep their latency.
//!
//! What holds:
//! - A read for a learner that catches up waits for its turn, in the order in which such reads came; nothing else waits.
//! - All of them together take no more than the pace from this node. Where several nodes send to one, each takes only its
//!   part, so that the one takes in no more than the pace either.
//! - What producers append meanwhile is not counted: a learner comes nearer however much is written. One that has all that
//!   was there when it last asked never waits, so it gets near the end however long others' turns take.
//! - What a replica asked for begins only while that replica is hosted.
//! - The [`Budget`] decides, and is handed the time; [`Pace`] waits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::{raft::CatchingUp, shard::ShardId};

/// A learner that has not read for this long, and does not wait for its turn, counts as a new one.
const FORGET: Duration = Duration::from_secs(600);

/// A read for a learner that catches up.
pub struct Asked {
    /// Of which shard's log.
    pub shard: ShardId,
    /// For whom.
    pub learner: CatchingUp,
    /// First index wanted.
    pub low: u64,
    /// One past the last index wanted.
    pub high: u64,
    /// Bytes wanted at most; at least one entry comes all the same.
    pub bytes: u64,
}

/// What a read is charged before anyone knows what it brings; to be settled then.
#[derive(Debug, PartialEq, Eq)]
pub struct Charge {
    shard: ShardId,
    learner: u64,
    bytes: u64,
    /// Bytes that others wait for; 0 if the read did not wait.
    paid: u64,
}

/// Who has taken how much, and when the next may.
#[derive(Debug)]
struct Budget {
    bytes_per_second: u64,
    /// When all that was taken is paid for.
    paid_at: Duration,
    /// How many nodes send to one, where more than one does.
    senders: BTreeMap<u64, u64>,
    learners: BTreeMap<(ShardId, u64), Learner>,
}

/// How a learner stands.
#[derive(Debug)]
struct Learner {
    appended_bytes: u64,
    /// Appended since its first read, and not sent yet: that is not counted. Below 0 if more was sent without a wait.
    free_bytes: i64,
    /// One past the last index that was there when it last asked.
    high: u64,
    read_at: Duration,
    waits: bool,
}

impl Budget {
    fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            paid_at: Duration::ZERO,
            senders: BTreeMap::new(),
            learners: BTreeMap::new(),
        }
    }

    /// Notes what was appended since the learner's last read; returns the charge if this one need not wait.
    fn ask(&mut self, asked: &Asked, now: Duration) -> Option<Charge> {
        let Asked { shard, learner: CatchingUp { learner, appended_bytes }, low, high, bytes } = *asked;
        self.learners.retain(|_, known| known.waits || now < known.read_at + FORGET);
        let new = Learner { appended_bytes, free_bytes: 0, high, read_at: now, waits: false };
        let known = self.learners.entry((shard, learner)).or_insert(new);
        known.free_bytes += signed(appended_bytes.saturating_sub(known.appended_bytes));
        // All that it lacks was appended since it last asked, and may well be less than the bytes that it asks for.
        let lacks_only_new = low >= known.high;
        let is_free = lacks_only_new || known.free_bytes >= signed(bytes);
        (known.appended_bytes, known.high, known.read_at) = (appended_bytes, high, now);
        known.waits = !is_free;
        is_free.then(|| {
            known.free_bytes -= signed(bytes);
            Charge { shard, learner, bytes, paid: 0 }
        })
    }

    /// How long the next one waits.
    fn wait(&self, now: Duration) -> Duration {
        self.paid_at.saturating_sub(now)
    }

    /// A read that has waited begins. It pays for what its learner was sent too much of as well.
    fn take(&mut self, asked: &Asked, now: Duration) -> Charge {
        let Asked { shard, learner: CatchingUp { learner, .. }, bytes, .. } = *asked;
        let free = self.learners.get_mut(&(shard, learner)).map_or(0, |known| {
            known.waits = false;
            let free = known.free_bytes.min(signed(bytes));
            known.free_bytes -= free;
            free
        });
        let paid = bytes.saturating_add_signed(-free);
        self.paid_at = self.paid_at.max(now) + self.time_of(learner, paid);
        Charge { shard, learner, bytes, paid }
    }

    /// A read is done, and took this: a batch may be longer than what was asked for, and rarely fits. Who waited pays for
    /// more at once; who did not has the less to its credit.
    fn settle(&mut self, charge: &Charge, taken: u64) {
        let Charge { shard, learner, bytes, paid } = *charge;
        let (more, less) = (taken.saturating_sub(bytes), bytes.saturating_sub(taken));
        let (pays, back) = (if paid > 0 { more } else { 0 }, less.min(paid));
        self.paid_at =
            (self.paid_at + self.time_of(learner, pays)).saturating_sub(self.time_of(learner, back));
        if let Some(known) = self.learners.get_mut(&(shard, learner)) {
            known.free_bytes += signed(less - back) - signed(more - pays);
        }
    }

    /// A read that waits will not be done.
    fn give_up(&mut self, asked: &Asked) {
        if let Some(known) = self.learners.get_mut(&(asked.shard, asked.learner.learner)) {
            known.waits = false;
        }
    }

    /// How long so much takes by the pace.
    fn time_of(&self, learner: u64, bytes: u64) -> Duration {
        let senders = self.senders.get(&learner).copied().unwrap_or(1).max(1);
        let counted = bytes.saturating_mul(senders);
        Duration::from_secs_f64(counted as f64 / self.bytes_per_second as f64)
    }
}

/// Nothing here comes near the greatest.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Reads that wait, and the task that lets them begin.
pub struct Pace {
    since: Instant,
    budget: Mutex<Budget>,
    settled: Arc<Notify>,
    waiting: mpsc::UnboundedSender<Waiting>,
}

/// One for each learner of a shard.
struct Waiting {
    asked: Asked,
    /// Of the replica that asked.
    life: Weak<()>,
    begin: Box<dyn FnOnce(Charge) + Send>,
}

impl Pace {
    /// So many bytes a second, in a task that ends with this; nothing waits if it is 0.
    pub fn start(bytes_per_second: u64) -> Option<Arc<Self>> {
        if bytes_per_second == 0 {
            return None;
        }
        let (waiting, reads) = mpsc::unbounded_channel();
        let budget = Mutex::new(Budget::new(bytes_per_second));
        let settled = Arc::new(Notify::new());
        let pace = Arc::new(Self { since: Instant::now(), budget, settled: Arc::clone(&settled), waiting });
        tokio::spawn(let_begin(Arc::downgrade(&pace), reads, settled));
        Some(pace)
    }

    /// How many nodes send to each of these.
    pub fn share(&self, senders: BTreeMap<u64, u64>) {
        self.budget().senders = senders;
    }

    /// What a read is charged, if it need not wait; else it is to [`Pace::wait`].
    pub fn admit(&self, asked: &Asked) -> Option<Charge> {
        self.budget().ask(asked, self.since.elapsed())
    }

    /// Has a read begun in its turn, unless `life` is over by then.
    pub fn wait(&self, asked: Asked, life: Weak<()>, begin: impl FnOnce(Charge) + Send + 'static) {
        let _ = self.waiting.send(Waiting { asked, life, begin: Box::new(begin) });
    }

    /// A read is done, or failed.
    pub fn settle(&self, charge: &Charge, taken: u64) {
        self.budget().settle(charge, taken);
        self.settled.notify_one();
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn let_begin(pace: Weak<Pace>, mut reads: mpsc::UnboundedReceiver<Waiting>, settled: Arc<Notify>) {
    while let Some(Waiting { asked, life, begin }) = reads.recv().await {
        // The wait changes with every read that is settled.
        while life.strong_count() > 0 {
            let Some(wait) = pace.upgrade().map(|pace| pace.budget().wait(pace.since.elapsed())) else {
                return;
            };
            if wait.is_zero() {
                break;
            }
            let _ = tokio::time::timeout(wait, settled.notified()).await;
        }
        let Some(pace) = pace.upgrade() else { return };
        match life.strong_count() {
            0 => pace.budget().give_up(&asked),
            _ => begin(pace.budget().take(&asked, pace.since.elapsed())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::raft::NEAR_ENTRIES;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    /// A read of a log of which no end is in sight.
    fn asked(shard: ShardId, learner: u64, appended_bytes: u64) -> Asked {
        Asked { shard, learner: CatchingUp { learner, appended_bytes }, low: 1, high: 1 << 40, bytes: MIB }
    }

    /// Lets learners, each of a shard of its own, read as fast as they may for some seconds; how many MiB each got.
    /// `written` is what producers append to each shard, in MiB a second.
    fn read_mib(budget: &mut Budget, learners: &[u64], written: u64, seconds: u64) -> Vec<u64> {
        let mut got = vec![0; learners.len()];
        let mut queue = VecDeque::new();
        let mut asks: Vec<usize> = (0..learners.len()).collect();
        for ms in 0..seconds * 1000 {
            let now = Duration::from_millis(ms);
            for at in std::mem::take(&mut asks) {
                let asked = asked(at as u64, learners[at], written * MIB * ms / 1000);
                match budget.ask(&asked, now) {
                    Some(_) => (got[at], asks) = (got[at] + 1, [asks, vec![at]].concat()),
                    None => queue.push_back((at, asked)),
                }
            }
            while budget.wait(now).is_zero() {
                let Some((at, asked)) = queue.pop_front() else { break };
                budget.take(&asked, now);
                got[at] += 1;
                asks.push(at);
            }
        }
        got
    }

    /// After how many milliseconds each of several learners, of a shard of its own, is near the end; each lacks 300 entries at
    /// first. Each shard gets one entry each millisecond.
    fn near_after_ms(budget: &mut Budget, learners: u64, entry_bytes: u64) -> Vec<Option<u64>> {
        let mut near = vec![None; learners as usize];
        let mut next = vec![1; learners as usize];
        let mut queue = VecDeque::new();
        let mut asks: Vec<usize> = (0..near.len()).collect();
        for ms in 0..60_000 {
            let (now, high) = (Duration::from_millis(ms), 301 + ms);
            let mut done = Vec::new();
            for at in std::mem::take(&mut asks) {
                let learner = CatchingUp { learner: 4, appended_bytes: ms * entry_bytes };
                let asked = Asked { shard: at as u64, learner, low: next[at], high, bytes: MIB };
                match budget.ask(&asked, now) {
                    Some(charge) => done.push((at, asked, charge)),
                    None => queue.push_back((at, asked)),
                }
            }
            while budget.wait(now).is_zero() {
                let Some((at, asked)) = queue.pop_front() else { break };
                let charge = budget.take(&asked, now);
                done.push((at, asked, charge));
            }
            for (at, asked, charge) in done {
                let entries = (asked.high - asked.low).min((MIB / entry_bytes).max(1));
                // It comes when the next may have begun to wait.
                budget.settle(&charge, entries * entry_bytes);
                next[at] = asked.low + entries;
                match high - next[at] <= NEAR_ENTRIES {
                    true => near[at] = Some(ms),
                    false => asks.push(at),
                }
            }
        }
        near
    }

    #[test]
    fn all_learners_together_get_no_more_than_the_pace_and_each_an_equal_part() {
        let got = read_mib(&mut Budget::new(40 * MIB), &[4, 4, 5, 6], 0, 10);
        assert!(got.iter().all(|mib| (100..=101).contains(mib)), "{got:?}");
    }

    #[test]
    fn of_several_senders_to_one_node_each_takes_its_part() {
        let mut budget = Budget::new(30 * MIB);
        budget.senders = BTreeMap::from([(4, 3)]);
        let got = read_mib(&mut budget, &[4], 0, 10);
        assert!((100..=101).contains(&got[0]), "{got:?}");
    }

    #[test]
    fn what_is_written_meanwhile_does_not_keep_a_learner_from_coming_nearer() {
        // Far more than the pace is written; the learner gets all of it, and the pace beside.
        let got = read_mib(&mut Budget::new(4 * MIB), &[4], 50, 10);
        assert!((535..=545).contains(&got[0]), "{got:?}");
    }

    #[test]
    fn learners_of_busy_shards_with_small_batches_all_get_near_the_end() {
        // A MiB takes a second, in which far more entries come than a learner that is near may lack.
        let near = near_after_ms(&mut Budget::new(MIB), 3, 100);
        assert!(near.iter().all(Option::is_some), "{near:?}");
    }

    #[test]
    fn a_batch_longer_than_was_asked_for_is_paid_for_and_what_was_not_read_is_not() {
        let mut budget = Budget::new(MIB);
        let charge = budget.take(&asked(1, 4, 0), Duration::ZERO);
        budget.settle(&charge, 8 * MIB);
        assert_eq!(budget.wait(Duration::ZERO), Duration::from_secs(8));
        let charge = budget.take(&asked(1, 4, 0), Duration::ZERO);
        budget.settle(&charge, 0);
        assert_eq!(budget.wait(Duration::ZERO), Duration::from_secs(8));
    }

    #[test]
    fn what_a_read_brings_that_did_not_wait_is_its_learners_own_affair() {
        let mut budget = Budget::new(MIB);
        assert_eq!(budget.ask(&asked(1, 4, 0), Duration::ZERO), None);
        let charge = budget.ask(&asked(1, 4, 4 * MIB), Duration::ZERO).expect("so much was appended");
        budget.settle(&charge, 8 * MIB);
        assert_eq!(budget.wait(Duration::ZERO), Duration::ZERO, "nobody else waits for it");
        assert_eq!(budget.ask(&asked(1, 4, 4 * MIB), Duration::ZERO), None, "but it does");
        budget.take(&asked(1, 4, 4 * MIB), Duration::ZERO);
        assert_eq!(
            budget.wait(Duration::ZERO),
            Duration::from_secs(5),
            "and pays for the 4 MiB it had too much"
        );

        let mut budget = Budget::new(MIB);
        assert_eq!(budget.ask(&asked(1, 4, 0), Duration::ZERO), None);
        let charge = budget.ask(&asked(1, 4, MIB), Duration::ZERO).expect("so much was appended");
        budget.settle(&charge, 100 * KIB);
        budget.take(&asked(1, 4, MIB), Duration::ZERO);
        let paid = budget.wait(Duration::ZERO);
        assert_eq!(paid, budget.time_of(4, 100 * KIB), "what it did not get is still to its credit");
    }

    #[test]
    fn time_in_which_nobody_reads_is_not_saved_up() {
        let mut budget = Budget::new(MIB);
        let later = Duration::from_secs(3600);
        for _ in 0..3 {
            budget.take(&asked(1, 4, 0), later);
        }
        assert_eq!(budget.wait(later), Duration::from_secs(3));
    }

    #[test]
    fn who_has_long_been_silent_is_forgotten_unless_it_waits() {
        let mut budget = Budget::new(MIB);
        let (first, second) = (asked(1, 4, 0), asked(2, 4, 0));
        assert_eq!(budget.ask(&first, Duration::ZERO), None);
        assert_eq!(budget.ask(&second, FORGET), None);
        assert_eq!(budget.learners.len(), 2, "both wait for their turns");
        budget.take(&first, FORGET);
        budget.give_up(&second);
        assert_eq!(budget.ask(&asked(3, 4, 0), 2 * FORGET), None);
        assert_eq!(budget.learners.len(), 1);
    }

    /// A pace at which the second of two reads waits for weeks, and the charge of the first.
    async fn slow_pace() -> (Arc<Pace>, Charge) {
        let pace = Pace::start(1).expect("a pace");
        let charge = pace.budget().take(&asked(1, 4, 0), Duration::ZERO);
        (pace, charge)
    }

    #[tokio::test]
    async fn a_read_that_brings_less_than_it_asked_for_lets_the_next_begin_at_once() {
        let (pace, charge) = slow_pace().await;
        let (life, (begins, mut begun)) = (Arc::new(()), mpsc::unbounded_channel());
        pace.wait(asked(2, 4, 0), Arc::downgrade(&life), move |_| begins.send(()).expect("somebody listens"));
        // It has seen how long it has to wait.
        tokio::task::yield_now().await;
        pace.settle(&charge, 0);
        let begun = tokio::time::timeout(Duration::from_secs(10), begun.recv()).await;
        assert_eq!(begun.expect("it waits on"), Some(()));
    }

    #[tokio::test]
    async fn what_a_replica_asked_for_that_has_gone_never_begins() {
        let (pace, charge) = slow_pace().await;
        let (begins, mut begun) = mpsc::unbounded_channel();
        let (gone, life) = (Arc::new(()), Arc::new(()));
        for (shard, life) in [(2, &gone), (3, &life)] {
            let begins = begins.clone();
            pace.wait(asked(shard, 4, 0), Arc::downgrade(life), move |_| {
                begins.send(shard).expect("somebody listens");
            });
        }
        drop(gone);
        pace.settle(&charge, 0);
        assert_eq!(begun.recv().await, Some(3));
    }
}
