//! What operators ask for, decided on the current state and written: see [`super::operator`] for the decisions.
//!
//! Each of these is a goal: it is in force when the answer comes, and the replicas move afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::writer::CHANGE_TIMEOUT;
use super::{Cancelled, Cluster, Command, MetadataError, MetadataState, RebalancePlan, Refusal, operator};

/// How long a broker that cannot be reached is waited for before that counts.
const REACHED_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at who can be reached.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

impl Cluster {
    /// A broker gives its replicas to others and gets no new ones, or (not `draining`) keeps what it still holds.
    ///
    /// # Errors
    /// This broker does not lead the metadata, there is no such broker, too few would stay, or one that stays cannot be
    /// reached.
    pub async fn drain_broker(&self, broker: u64, draining: bool) -> Result<(), MetadataError> {
        if !draining {
            return self.operate(|state| operator::undrain(broker, state)).await.map(|_| ());
        }
        let reached = self.reached_for(broker).await;
        let decide = |state: &MetadataState| {
            let commands = operator::drain(broker, state)?;
            if !commands.is_empty() {
                operator::check_answering(broker, state, |id| reached.contains(&id))?;
            }
            Ok(commands)
        };
        self.operate(decide).await.map(|_| ())
    }

    /// The brokers that can be reached, once all are that a draining one's replicas may go to, or a little later: one that has
    /// just come is being connected to.
    async fn reached_for(&self, broker: u64) -> BTreeSet<u64> {
        let deadline = Instant::now() + REACHED_WITHIN;
        loop {
            let mut reached: BTreeSet<u64> = self.inner.colleagues.connected().into_iter().collect();
            reached.insert(self.node());
            let all = operator::check_answering(broker, &self.state(), |id| reached.contains(&id)).is_ok();
            if all || Instant::now() >= deadline || !self.metadata().view().is_leader {
                return reached;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// A partition's replicas shall be on these brokers, preferred leader first.
    ///
    /// # Errors
    /// This broker does not lead the metadata, there is no such partition, it moves elsewhere already, or these brokers
    /// cannot hold it.
    pub async fn move_partition(&self, topic: &str, partition: u32, to: &[u64]) -> Result<(), MetadataError> {
        self.operate(|state| operator::move_partition(topic, partition, to, state)).await.map(|_| ())
    }

    /// Spreads replicas and preferred leaders evenly, a few moves at a time; only says how, if it is a `dry_run`.
    ///
    /// # Errors
    /// This broker does not lead the metadata.
    pub async fn rebalance(&self, dry_run: bool) -> Result<RebalancePlan, MetadataError> {
        let decide = |state: &MetadataState| match dry_run {
            true => Ok(Vec::new()),
            false => Ok(operator::rebalance(state)),
        };
        let before = self.operate(decide).await?;
        Ok(operator::plan_rebalance(&before))
    }

    /// Gives moves up; returns how many.
    ///
    /// # Errors
    /// This broker does not lead the metadata, or there is no such partition.
    pub async fn cancel_moves(&self, which: Cancelled<'_>) -> Result<usize, MetadataError> {
        let before = self.operate(|state| operator::cancel(which, state)).await?;
        let commands = operator::cancel(which, &before)?;
        Ok(commands.iter().filter(|command| matches!(command, Command::CancelMove { .. })).count())
    }

    /// Writes what is decided; returns the state it was decided on.
    async fn operate(
        &self,
        decide: impl Fn(&MetadataState) -> Result<Vec<Command>, Refusal>,
    ) -> Result<std::sync::Arc<MetadataState>, MetadataError> {
        Ok(self.change(Instant::now() + CHANGE_TIMEOUT, decide).await?.0)
    }
}
