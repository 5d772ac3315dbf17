//! What operators ask for, decided on the current state and written: see [`super::operator`] for the decisions.
//!
//! Each of these is a goal: it is in force when the answer comes, and the replicas move afterwards.

use tokio::time::Instant;

use super::writer::CHANGE_TIMEOUT;
use super::{Cancelled, Cluster, Command, MetadataError, MetadataState, RebalancePlan, Refusal, operator};

impl Cluster {
    /// A broker gives its replicas to others and gets no new ones, or (not `draining`) keeps what it still holds.
    ///
    /// # Errors
    /// This broker does not lead the metadata, there is no such broker, or too few would stay.
    pub async fn drain_broker(&self, broker: u64, draining: bool) -> Result<(), MetadataError> {
        let decide = |state: &MetadataState| match draining {
            true => operator::drain(broker, state),
            false => operator::undrain(broker, state),
        };
        self.operate(decide).await.map(|_| ())
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
