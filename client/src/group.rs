//! Consumer groups: how far each has come, kept in the cluster.
//!
//! What holds:
//!
//! - A position is the first LSN that is not processed: the next one to be read.
//! - It is kept in the partition it speaks of, or in another one: that of the group's output. A batch for that one can
//!   carry it ([`Producer::send_batch_at`](crate::Producer::send_batch_at)): both are stored, or neither.
//! - A member that has taken over ([`Group::take_over`]) shuts out the one before it, and what that one has under way.

use lockstep_protocol::native::{
    CommitPositionRequest, DeletePositionsRequest, ListPositionsRequest, PositionSource,
};
use tokio::task::JoinSet;

use crate::attempt::Target;
use crate::client::Client;
use crate::error::{PositionError, RequestError};
use crate::retry::Repeat;

pub use lockstep_protocol::native::{Position, PositionCommit};

/// Partitions asked at once for what they keep.
const ASKED_AT_ONCE: usize = 32;
/// How often somebody else may be faster before a take-over gives up.
const TAKE_OVERS_MAX: u32 = 16;

/// A consumer group, by its name. Nothing is asked before a method is called.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use lockstep_client::Client;
///
/// let client = Client::connect("127.0.0.1:7400").await?;
/// let billing = client.group("billing");
/// billing.commit(billing.at("orders", 0, 42)).await?;
/// assert_eq!(billing.committed("orders", 0).await?.map(|position| position.next_lsn), Some(42));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Group {
    client: Client,
    name: String,
    kept_in: Option<(String, u32)>,
}

/// A position, and where it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPosition {
    /// The topic it is kept in.
    pub topic: String,
    /// The partition it is kept in.
    pub partition: u32,
    /// What is kept.
    pub position: Position,
}

/// How far a group is behind in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: u32,
    /// The group's position; none before its first commit.
    pub position: Option<Position>,
    /// The first LSN still kept.
    pub log_start: u64,
    /// The last committed LSN.
    pub high_watermark: u64,
    /// Records that are committed, kept and not processed.
    pub records: u64,
}

/// Who reads a partition for a group from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// To be stated with each commit ([`PositionCommit::generation`]).
    pub generation: u64,
    /// Where the group goes on.
    pub next_lsn: u64,
}

impl Client {
    /// A consumer group.
    pub fn group(&self, name: impl Into<String>) -> Group {
        Group { client: self.clone(), name: name.into(), kept_in: None }
    }

    /// The positions kept anywhere in the cluster, of one group or of all: by group, then by what is read. Asks every
    /// partition's leader.
    ///
    /// # Errors
    /// [`PositionError::Request`] if one does not answer.
    pub async fn positions(&self, group: Option<&str>) -> Result<Vec<KeptPosition>, PositionError> {
        let mut places = Vec::new();
        for topic in self.core.metadata(None).await?.topics.into_iter().flatten() {
            places.extend(topic.partitions.iter().map(|found| (topic.name.clone(), found.partition)));
        }
        let mut kept = Vec::new();
        for chunk in places.chunks(ASKED_AT_ONCE) {
            let mut asked = JoinSet::new();
            for (topic, partition) in chunk.iter().cloned() {
                let (client, group) = (self.clone(), group.map(str::to_owned));
                asked.spawn(async move { client.positions_in(topic, partition, group).await });
            }
            while let Some(answer) = asked.join_next().await {
                let died = |error: tokio::task::JoinError| RequestError::Garbled { why: error.to_string() };
                match answer.map_err(died)? {
                    // The topic was deleted since it was named, and its positions with it.
                    Err(PositionError::Unknown { .. }) => {}
                    answer => kept.extend(answer?),
                }
            }
        }
        let order = |kept: &KeptPosition| {
            let Position { group, topic, partition, .. } = kept.position.clone();
            (group, topic, partition, kept.topic.clone(), kept.partition)
        };
        kept.sort_by_key(order);
        Ok(kept)
    }

    async fn positions_in(
        &self,
        topic: String,
        partition: u32,
        group: Option<String>,
    ) -> Result<Vec<KeptPosition>, PositionError> {
        let request = ListPositionsRequest { topic, partition, group };
        let target = Target::Leader(&request.topic, partition);
        let answer = self.core.call(target, &request, Repeat::Harmless).await?;
        let kept = |position| KeptPosition { topic: request.topic.clone(), partition, position };
        Ok(answer.positions.into_iter().map(kept).collect())
    }
}

impl Group {
    /// Keeps its positions in this partition, not in those they speak of.
    #[must_use]
    pub fn kept_in(mut self, topic: impl Into<String>, partition: u32) -> Self {
        self.kept_in = Some((topic.into(), partition));
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What commits that all below `next_lsn` is processed. Its fields are the conditions.
    #[must_use]
    pub fn at(&self, topic: impl Into<String>, partition: u32, next_lsn: u64) -> PositionCommit {
        PositionCommit {
            group: self.name.clone(),
            topic: topic.into(),
            partition,
            next_lsn,
            generation: 0,
            metadata: String::new(),
            expected_next_lsn: None,
            expected_generation: None,
        }
    }

    /// How far it has come in a partition, confirmed by a majority; `None` before its first commit.
    ///
    /// # Errors
    /// [`PositionError::Unknown`] if there is no such partition.
    pub async fn committed(&self, topic: &str, partition: u32) -> Result<Option<Position>, PositionError> {
        let (kept_topic, kept_partition) = self.place_of(topic, partition);
        let group = Some(self.name.clone());
        let kept = self.client.positions_in(kept_topic, kept_partition, group).await?;
        let found = kept.into_iter().map(|kept| kept.position);
        Ok(found.into_iter().find(|found| found.topic == topic && found.partition == partition))
    }

    /// Commits a position: it is synced on a majority when this returns.
    ///
    /// # Errors
    /// [`PositionError::Conflict`] or [`PositionError::Fenced`] if a condition does not hold; as
    /// [`RequestError::OutcomeUnknown`] if that may be because an earlier attempt was carried out.
    pub async fn commit(&self, position: PositionCommit) -> Result<(), PositionError> {
        let (topic, partition) = self.place_of(&position.topic, position.partition);
        let request = CommitPositionRequest { topic, partition, position };
        let mut retry = self.client.core.retry(Repeat::Harmless);
        let target = Target::Leader(&request.topic, partition);
        let limit = self.client.core.options.request_timeout;
        let refused = match self.client.core.attempts(&mut retry, target, &request, limit).await {
            Ok(_) => return Ok(()),
            Err(error) => PositionError::from(error),
        };
        match refused {
            PositionError::Conflict { .. } | PositionError::Fenced { .. } if retry.outcome_open() => {
                let last = format!("{refused}; but an earlier attempt may have been carried out");
                Err(RequestError::OutcomeUnknown { last }.into())
            }
            refused => Err(refused),
        }
    }

    /// Makes the caller the one that reads a partition for the group: whatever a former one still commits or has under
    /// way is refused from now on. Without a position it goes on at `first_lsn`.
    ///
    /// # Errors
    /// [`PositionError::Fenced`] if others take over again and again.
    pub async fn take_over(
        &self,
        topic: &str,
        partition: u32,
        first_lsn: u64,
    ) -> Result<Member, PositionError> {
        let mut attempts = 0;
        loop {
            let found = self.committed(topic, partition).await?;
            let (next_lsn, generation) =
                found.as_ref().map_or((0, 0), |found| (found.next_lsn, found.generation));
            let member = Member {
                generation: generation + 1,
                next_lsn: if next_lsn == 0 { first_lsn } else { next_lsn },
            };
            let commit = PositionCommit {
                generation: member.generation,
                metadata: found.map(|found| found.metadata).unwrap_or_default(),
                expected_next_lsn: Some(next_lsn),
                expected_generation: Some(generation),
                ..self.at(topic, partition, member.next_lsn)
            };
            attempts += 1;
            match self.commit(commit).await {
                Ok(()) => return Ok(member),
                // Whoever it was, the next look tells: if it was this one, it shuts itself out, which does no harm.
                Err(
                    PositionError::Conflict { .. }
                    | PositionError::Fenced { .. }
                    | PositionError::Request(RequestError::OutcomeUnknown { .. }),
                ) if attempts < TAKE_OVERS_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// How far it is behind in each partition of a topic.
    ///
    /// # Errors
    /// [`PositionError::Unknown`] if there is no such topic.
    pub async fn lag(&self, topic: &str) -> Result<Vec<Lag>, PositionError> {
        let mut lags = Vec::new();
        for partition in 0..self.client.core.partition_count(topic, false).await? {
            let position = self.committed(topic, partition).await?;
            lags.push(self.client.lag_of(topic, partition, position).await?);
        }
        Ok(lags)
    }

    /// Deletes its positions: in a partition of a topic, or everywhere they are kept. Generations go with them.
    ///
    /// # Errors
    /// [`PositionError::Request`] if a leader does not answer.
    pub async fn delete(&self, source: Option<(&str, u32)>) -> Result<(), PositionError> {
        let places = match source {
            Some((topic, partition)) => vec![self.place_of(topic, partition)],
            None => {
                let kept = self.client.positions(Some(&self.name)).await?;
                let mut places: Vec<_> = kept.into_iter().map(|kept| (kept.topic, kept.partition)).collect();
                places.sort();
                places.dedup();
                places
            }
        };
        for (topic, partition) in places {
            let source = source.map(|(topic, partition)| PositionSource { topic: topic.into(), partition });
            let request = DeletePositionsRequest { topic, partition, group: self.name.clone(), source };
            let target = Target::Leader(&request.topic, partition);
            self.client.core.call(target, &request, Repeat::Harmless).await?;
        }
        Ok(())
    }

    fn place_of(&self, topic: &str, partition: u32) -> (String, u32) {
        self.kept_in.clone().unwrap_or_else(|| (topic.to_owned(), partition))
    }
}

impl Client {
    /// How far a position, if there is one, is behind what is committed.
    ///
    /// # Errors
    /// [`PositionError::Unknown`] if there is no such partition.
    pub async fn lag_of(
        &self,
        topic: &str,
        partition: u32,
        position: Option<Position>,
    ) -> Result<Lag, PositionError> {
        let tail = self.tail(topic, partition, false).await.map_err(PositionError::of_partition)?;
        let (log_start, high_watermark) = (tail.log_start, tail.high_watermark);
        let next_lsn = position.as_ref().map_or(0, |position| position.next_lsn).max(log_start);
        let records = (high_watermark + 1).saturating_sub(next_lsn);
        Ok(Lag { partition, position, log_start, high_watermark, records })
    }
}
