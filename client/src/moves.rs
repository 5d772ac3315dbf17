//! Moves of replicas. Each call states a goal, which is in force when it returns; the replicas move afterwards. To ask twice
//! does no harm.

use lockstep_protocol::native::{
    CancelMovesRequest, DrainBrokerRequest, MovePartitionRequest, RebalanceRequest, RebalanceResponse,
    TopicPartition,
};

use crate::attempt::Target;
use crate::client::Client;
use crate::error::{BrokerError, MoveError};
use crate::retry::Repeat;

impl Client {
    /// A broker gives its replicas to others and gets no new ones, or (not `draining`) keeps what it still holds.
    ///
    /// # Errors
    /// [`BrokerError::TooFewBrokers`] if those that stay could not hold all replicas.
    pub async fn drain_broker(&self, broker: u64, draining: bool) -> Result<(), BrokerError> {
        let request = DrainBrokerRequest { broker, draining };
        self.core.call(Target::Controller, &request, Repeat::Harmless).await?;
        Ok(())
    }

    /// Moves a partition's replicas to these brokers, the preferred leader first.
    ///
    /// # Errors
    /// [`MoveError::UnderWay`] if it moves elsewhere already.
    pub async fn move_partition(&self, topic: &str, partition: u32, to: &[u64]) -> Result<(), MoveError> {
        let request = MovePartitionRequest { topic: topic.to_owned(), partition, to: to.to_vec() };
        self.core.call(Target::Controller, &request, Repeat::Harmless).await?;
        Ok(())
    }

    /// Spreads replicas and preferred leaders evenly over the brokers; only says how, if it is a `dry_run`.
    ///
    /// # Errors
    /// [`MoveError::Request`] if no broker can.
    pub async fn rebalance(&self, dry_run: bool) -> Result<RebalanceResponse, MoveError> {
        Ok(self.core.call(Target::Controller, &RebalanceRequest { dry_run }, Repeat::Harmless).await?)
    }

    /// Gives up the moves of one partition, or (`None`) all but those off brokers that are draining. Returns how many.
    ///
    /// # Errors
    /// [`MoveError::Unknown`] if there is no such partition.
    pub async fn cancel_moves(&self, partition: Option<(&str, u32)>) -> Result<u32, MoveError> {
        let named = |(topic, partition): (&str, u32)| TopicPartition { topic: topic.to_owned(), partition };
        let request = CancelMovesRequest { partition: partition.map(named) };
        Ok(self.core.call(Target::Controller, &request, Repeat::Harmless).await?.cancelled)
    }
}
