//! How fast the log is read for new replicas elsewhere: slowly enough that clients keep their latency.
//!
//! What holds:
//! - A read for a learner that catches up waits for its turn, in the order in which such reads came; nothing else waits.
//! - All of them together take no more than the pace from this node. Where several nodes send to one, each takes only its
//!   part, so that the one takes in no more than the pace either.
//! - What producers append meanwhile is not counted: a learner comes nearer however much is written. Metadata does not wait.
//! - The [`Budget`] decides, and is handed the time; [`Pace`] waits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::worker::Mail;
use crate::{raft::CatchingUp, replica::Job, shard::ShardId};

/// A learner that has not read for this long counts as a new one.
const FORGET: Duration = Duration::from_secs(600);

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
    /// Appended since its first read, and not sent yet: that is not counted.
    free_bytes: u64,
    read_at: Duration,
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

    /// Notes what was appended since the learner's last read; returns whether this one need not wait.
    fn ask(&mut self, shard: ShardId, learner: CatchingUp, bytes: u64, now: Duration) -> bool {
        let CatchingUp { learner, appended_bytes } = learner;
        self.learners.retain(|_, known| now < known.read_at + FORGET);
        let new = Learner { appended_bytes, free_bytes: 0, read_at: now };
        let known = self.learners.entry((shard, learner)).or_insert(new);
        known.free_bytes += appended_bytes.saturating_sub(known.appended_bytes);
        (known.appended_bytes, known.read_at) = (appended_bytes, now);
        let is_free = known.free_bytes >= bytes;
        if is_free {
            known.free_bytes -= bytes;
        }
        is_free
    }

    /// How long the next one waits.
    fn wait(&self, now: Duration) -> Duration {
        self.paid_at.saturating_sub(now)
    }

    /// A read begins that may take so much.
    fn take(&mut self, shard: ShardId, learner: u64, bytes: u64, now: Duration) {
        let free = self.learners.get_mut(&(shard, learner)).map_or(0, |known| {
            let free = known.free_bytes.min(bytes);
            known.free_bytes -= free;
            free
        });
        let pays = self.time_of(learner, bytes - free);
        self.paid_at = self.paid_at.max(now) + pays;
    }

    /// A read that might have taken so much is done, and took this: a batch may be longer, and rarely fits.
    fn settle(&mut self, learner: u64, bytes: u64, taken: u64) {
        let (more, less) = (taken.saturating_sub(bytes), bytes.saturating_sub(taken));
        self.paid_at =
            (self.paid_at + self.time_of(learner, more)).saturating_sub(self.time_of(learner, less));
    }

    /// How long so much takes by the pace.
    fn time_of(&self, learner: u64, bytes: u64) -> Duration {
        let senders = self.senders.get(&learner).copied().unwrap_or(1).max(1);
        let counted = bytes.saturating_mul(senders);
        Duration::from_secs_f64(counted as f64 / self.bytes_per_second as f64)
    }
}

/// Reads that wait, and the task that lets them begin.
pub struct Pace {
    since: Instant,
    budget: Mutex<Budget>,
    waiting: mpsc::UnboundedSender<Waiting>,
}

/// One for each learner of a shard.
struct Waiting {
    shard: ShardId,
    job: Job,
    mail: mpsc::WeakUnboundedSender<Mail>,
}

impl Pace {
    /// So many bytes a second, in a task that ends with this; nothing waits if it is 0.
    pub fn start(bytes_per_second: u64) -> Option<Arc<Self>> {
        if bytes_per_second == 0 {
            return None;
        }
        let (waiting, reads) = mpsc::unbounded_channel();
        let budget = Mutex::new(Budget::new(bytes_per_second));
        let pace = Arc::new(Self { since: Instant::now(), budget, waiting });
        tokio::spawn(let_begin(Arc::downgrade(&pace), reads));
        Some(pace)
    }

    /// How many nodes send to each of these.
    pub fn share(&self, senders: BTreeMap<u64, u64>) {
        self.budget().senders = senders;
    }

    /// The job, if it need not wait. One that waits comes back as [`Mail::Begin`].
    pub fn admit(&self, shard: ShardId, job: Job, mail: &mpsc::UnboundedSender<Mail>) -> Option<Job> {
        let Some((learner, bytes)) = job.catching_up() else { return Some(job) };
        if self.budget().ask(shard, learner, bytes, self.since.elapsed()) {
            return Some(job);
        }
        let _ = self.waiting.send(Waiting { shard, job, mail: mail.downgrade() });
        None
    }

    /// A read for a learner is done, or failed.
    pub fn settle(&self, (learner, bytes): (CatchingUp, u64), taken: u64) {
        self.budget().settle(learner.learner, bytes, taken);
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn let_begin(pace: std::sync::Weak<Pace>, mut reads: mpsc::UnboundedReceiver<Waiting>) {
    while let Some(Waiting { shard, job, mail }) = reads.recv().await {
        let Some((learner, bytes)) = job.catching_up() else { continue };
        let Some(wait) = pace.upgrade().map(|pace| pace.budget().wait(pace.since.elapsed())) else { return };
        tokio::time::sleep(wait).await;
        let (Some(pace), Some(mail)) = (pace.upgrade(), mail.upgrade()) else { continue };
        pace.budget().take(shard, learner.learner, bytes, pace.since.elapsed());
        let _ = mail.send(Mail::Begin { shard, job });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn catching_up(learner: u64, appended_bytes: u64) -> CatchingUp {
        CatchingUp { learner, appended_bytes }
    }

    /// Lets learners, each of a shard of its own, read as fast as they may for some seconds; how many MiB each got.
    /// `written` is what producers append to each shard, in MiB a second.
    fn read_mib(budget: &mut Budget, learners: &[u64], written: u64, seconds: u64) -> Vec<u64> {
        let mut got = vec![0; learners.len()];
        let mut queue = std::collections::VecDeque::new();
        let mut asks: Vec<usize> = (0..learners.len()).collect();
        for ms in 0..seconds * 1000 {
            let now = Duration::from_millis(ms);
            for at in std::mem::take(&mut asks) {
                let learner = catching_up(learners[at], written * MIB * ms / 1000);
                match budget.ask(at as u64, learner, MIB, now) {
                    true => (got[at], asks) = (got[at] + 1, [asks, vec![at]].concat()),
                    false => queue.push_back(at),
                }
            }
            while !queue.is_empty() && budget.wait(now).is_zero() {
                let at = queue.pop_front().expect("one waits");
                budget.take(at as u64, learners[at], MIB, now);
                got[at] += 1;
                asks.push(at);
            }
        }
        got
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
    fn a_batch_longer_than_was_asked_for_is_paid_for_and_what_was_not_read_is_not() {
        let mut budget = Budget::new(MIB);
        budget.take(1, 4, MIB, Duration::ZERO);
        budget.settle(4, MIB, 8 * MIB);
        assert_eq!(budget.wait(Duration::ZERO), Duration::from_secs(8));
        budget.take(1, 4, MIB, Duration::ZERO);
        budget.settle(4, MIB, 0);
        assert_eq!(budget.wait(Duration::ZERO), Duration::from_secs(8));
    }

    #[test]
    fn time_in_which_nobody_reads_is_not_saved_up() {
        let mut budget = Budget::new(MIB);
        let later = Duration::from_secs(3600);
        for _ in 0..3 {
            budget.take(1, 4, MIB, later);
        }
        assert_eq!(budget.wait(later), Duration::from_secs(3));
    }

    #[test]
    fn who_has_long_been_silent_is_forgotten() {
        let mut budget = Budget::new(MIB);
        assert!(!budget.ask(1, catching_up(4, 0), MIB, Duration::ZERO));
        assert!(!budget.ask(2, catching_up(4, 0), MIB, FORGET));
        assert_eq!(budget.learners.len(), 1);
    }
}
