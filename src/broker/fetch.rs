//! Reading by LSN, with long poll. Any replica serves, and only what is committed.

use std::time::Duration;

use lockstep_storage::ReadBatch;
use tokio::time::{Instant, timeout_at};

use super::locate::Located;
use super::wake::any_changed;
use super::{Broker, ByteBudget, ByteLease, FetchError, LocateError};
use crate::cluster::{ReadFault, read_committed};
use crate::engine::{Health, ShardView};

/// How long a follower may take to hear of a commit before an LSN beyond its tail is refused: the reader may
/// have it from the leader.
const NEWS_WAIT: Duration = Duration::from_secs(1);

/// Where to read.
#[derive(Clone, Debug)]
pub struct FetchFrom {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first LSN wanted; up to the next one to be written, which is waited for.
    pub from_lsn: u64,
    /// Bytes of batches to return for this partition; at least one batch comes.
    pub max_bytes: usize,
}

/// What to read and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Where to read.
    pub items: Vec<FetchFrom>,
    /// Bytes worth answering for before the time is up.
    pub min_bytes: usize,
    /// Bytes of batches to return in all.
    pub max_bytes: usize,
    /// How long to wait for `min_bytes`.
    pub max_wait: Duration,
}

/// Batches of one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The first LSN still kept.
    pub log_start: u64,
    /// The last LSN this replica knows to be committed.
    pub high_watermark: u64,
    /// Whole batches; the first one holds the LSN asked for.
    pub batches: Vec<ReadBatch>,
}

impl Fetched {
    /// Whether more is committed than these batches, which waiting would not add to them.
    fn leaves_some(&self) -> bool {
        self.batches.last().is_some_and(|last| last.last_lsn() < self.high_watermark)
    }

    /// Bytes of all batches.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.bytes.len()).sum()
    }
}

/// What a fetch returns, and the memory it counts against.
pub struct FetchAnswer {
    /// One answer for each item, in their order.
    pub items: Vec<Result<Fetched, FetchError>>,
    /// To be held until the batches are sent.
    pub lease: Option<ByteLease>,
}

impl Broker {
    /// Reads from partitions. Answers at once if any item fails, or has more than one read returns; else as soon as there
    /// are `min_bytes`, or when the time is up. What is read counts against `memory` until the lease is dropped.
    pub async fn fetch(&self, fetch: &Fetch, memory: &ByteBudget) -> FetchAnswer {
        let deadline = Instant::now() + fetch.max_wait;
        let mut located = Vec::with_capacity(fetch.items.len());
        let locate_by = Instant::now() + NEWS_WAIT;
        for item in &fetch.items {
            located.push(self.locate_position(item, locate_by).await);
        }
        let mut watches: Vec<_> = located.iter().flatten().map(|located| located.handle.watch()).collect();
        loop {
            watches.iter_mut().for_each(|watch| drop(watch.borrow_and_update()));
            let answer = self.read_all(fetch, &located, memory).await;
            let settled = |item: &Result<Fetched, _>| item.as_ref().map_or(true, Fetched::leaves_some);
            let settled = answer.items.iter().any(settled);
            let bytes: usize = answer.items.iter().flatten().map(Fetched::bytes).sum();
            if settled || bytes >= fetch.min_bytes.max(1) || Instant::now() >= deadline {
                return answer;
            }
            drop(answer);
            let _ = timeout_at(deadline, any_changed(&mut watches)).await;
        }
    }

    async fn locate_position(&self, item: &FetchFrom, locate_by: Instant) -> Result<Located, FetchError> {
        let located = self.locate_by(&item.topic, item.partition, locate_by).await?;
        check_position(&located, item.from_lsn).await?;
        Ok(located)
    }

    /// What there is now, within a lease that is taken before anything is read.
    async fn read_all(
        &self,
        fetch: &Fetch,
        located: &[Result<Located, FetchError>],
        memory: &ByteBudget,
    ) -> FetchAnswer {
        let readable = |(item, located): (&FetchFrom, &Result<Located, FetchError>)| {
            let located = located.as_ref().ok()?;
            let readable = located.handle.view().high_watermark >= item.from_lsn;
            readable.then(|| self.batch_bytes_max(&located.topic.settings))
        };
        let largest = fetch.items.iter().zip(located).filter_map(readable).max();
        let mut lease = match largest {
            Some(largest) => Some(memory.acquire(fetch.max_bytes.max(largest)).await),
            None => None,
        };
        let mut items: Vec<Result<Fetched, FetchError>> = Vec::with_capacity(fetch.items.len());
        let mut taken = 0;
        for (item, located) in fetch.items.iter().zip(located) {
            let room = fetch.max_bytes.saturating_sub(taken);
            let answer = match located {
                Err(error) => Err(error.clone()),
                // What became readable after the lease was taken is left for the next fetch.
                Ok(located) if lease.is_none() => read_one(located, item, None).await,
                // The first partition with records answers whatever the limit is; the others fit the rest.
                Ok(located) if taken == 0 => read_one(located, item, Some(item.max_bytes.min(room))).await,
                Ok(located) => read_rest(located, item, room).await,
            };
            taken += answer.as_ref().map_or(0, Fetched::bytes);
            items.push(answer);
        }
        if let Some(lease) = &mut lease {
            lease.keep(taken);
        }
        FetchAnswer { items, lease }
    }
}

/// Whether `from_lsn` can be read, or is the next one. What this replica has not heard of yet is waited for.
pub(super) async fn check_position(located: &Located, from_lsn: u64) -> Result<(), FetchError> {
    if from_lsn == 0 {
        return Err(FetchError::InvalidLsn);
    }
    let handle = &located.handle;
    let view = handle.view();
    if from_lsn < view.log_start {
        return Err(ReadFault::BelowLogStart { log_start: view.log_start }.into());
    }
    let known = |high_watermark: u64| from_lsn <= high_watermark.saturating_add(1);
    if known(view.high_watermark) {
        return Ok(());
    }
    // A leader asks its majority, anyone else waits for the leader's next word.
    let tail = if view.is_leader { handle.tail().await.ok() } else { None };
    if tail.is_none_or(known) {
        let mut watch = handle.watch();
        let news = watch.wait_for(|view| known(view.high_watermark));
        if let Ok(Ok(_)) = tokio::time::timeout(NEWS_WAIT, news).await {
            return Ok(());
        }
    }
    let next_lsn = handle.view().high_watermark.saturating_add(1);
    Err(FetchError::BeyondTail { asked: from_lsn, next_lsn })
}

/// Whether a reader may wait for more here: a replica that has stopped would let it wait for ever.
pub(super) fn check_works(view: &ShardView) -> Result<(), LocateError> {
    match &view.health {
        Health::Ok | Health::Full => Ok(()),
        Health::Failed(why) | Health::Faulty(why) => Err(LocateError::Faulty(why.clone())),
    }
}

/// As much of a partition as fits, which may be nothing.
async fn read_rest(located: &Located, item: &FetchFrom, room: usize) -> Result<Fetched, FetchError> {
    let most = (room > 0).then_some(item.max_bytes.min(room));
    let mut fetched = read_one(located, item, most).await?;
    while fetched.bytes() > room {
        fetched.batches.pop();
    }
    Ok(fetched)
}

async fn read_one(
    located: &Located,
    item: &FetchFrom,
    max_bytes: Option<usize>,
) -> Result<Fetched, FetchError> {
    let batches = match max_bytes {
        Some(max_bytes) => read_committed(&located.handle, item.from_lsn, max_bytes).await?,
        None => Vec::new(),
    };
    let view = located.handle.view();
    if item.from_lsn > view.high_watermark {
        check_works(&view)?;
    }
    Ok(Fetched { log_start: view.log_start, high_watermark: view.high_watermark, batches })
}
