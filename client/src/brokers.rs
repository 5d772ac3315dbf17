//! Brokers: how one joins, which there are, and how one is removed.

use lockstep_protocol::ErrorCode;
use lockstep_protocol::native::{
    BrokerInfo, JoinRequest, JoinResponse, ListBrokersRequest, RemoveBrokerRequest,
};

use crate::attempt::Target;
use crate::client::Client;
use crate::error::BrokerError;
use crate::retry::Repeat;

impl Client {
    /// Asks that a broker become a member; for brokers themselves. To ask twice with one directory does no harm.
    ///
    /// # Errors
    /// [`BrokerError::Conflict`] if it cannot be told from another broker.
    pub async fn join(&self, request: JoinRequest) -> Result<JoinResponse, BrokerError> {
        Ok(self.core.call(Target::Controller, &request, Repeat::Harmless).await?)
    }

    /// All brokers, by id, as far as the answering one knows.
    ///
    /// # Errors
    /// [`BrokerError::Request`] if no broker answers.
    pub async fn list_brokers(&self) -> Result<Vec<BrokerInfo>, BrokerError> {
        Ok(self.core.call(Target::Any, &ListBrokersRequest {}, Repeat::Harmless).await?.brokers)
    }

    /// Removes a broker that holds nothing, for good. If an attempt's answer was lost, a broker that is then missing
    /// counts as removed by it.
    ///
    /// # Errors
    /// [`BrokerError::InUse`] if it still holds replicas.
    pub async fn remove_broker(&self, broker: u64) -> Result<(), BrokerError> {
        let request = RemoveBrokerRequest { broker };
        let mut retry = self.core.retry(Repeat::Harmless);
        let limit = self.core.options.request_timeout;
        match self.core.attempts(&mut retry, Target::Controller, &request, limit).await {
            Err(error) if retry.outcome_open() && error.code() == Some(ErrorCode::UnknownBroker) => Ok(()),
            removed => Ok(removed.map(|_| ())?),
        }
    }
}
