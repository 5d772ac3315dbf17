//! The broker's errors as the admin interface's.

use super::super::control::AdminError;
use super::BrokerControl;
use crate::broker::{ControlError, LocateError, TopicError};
use crate::cluster::Refusal;
use crate::engine::{AppendError, PositionRefusal};

impl BrokerControl {
    pub(super) fn topic_error(&self, error: TopicError) -> AdminError {
        match error {
            TopicError::NotLeader { leader, .. } => self.not_leader(leader),
            TopicError::Refused(refusal) => refused(refusal),
            TopicError::OutcomeUnknown | TopicError::TimedOut => AdminError::TimedOut(error.to_string()),
            TopicError::Log(error) => self.append_error(error),
            TopicError::Elsewhere { .. } | TopicError::Stuck(_) => AdminError::Unavailable(error.to_string()),
        }
    }

    pub(super) fn partition_error(&self, topic: &str, number: u32, error: ControlError) -> AdminError {
        let (topic, partition) = (topic.to_owned(), number);
        match error {
            ControlError::Locate(LocateError::UnknownTopic(name)) => AdminError::UnknownTopic(name),
            ControlError::Locate(LocateError::UnknownPartition { .. }) => {
                AdminError::UnknownPartition { topic, partition }
            }
            ControlError::Locate(LocateError::NotReplica { .. }) => {
                AdminError::NoReplicaHere { topic, partition }
            }
            ControlError::Append(error) => self.append_error(error),
            ControlError::TimedOut { .. } => AdminError::TimedOut(error.to_string()),
            other => AdminError::Unavailable(other.to_string()),
        }
    }

    fn append_error(&self, error: AppendError) -> AdminError {
        match error {
            AppendError::NotLeader { leader, .. } => self.not_leader(leader),
            AppendError::OutcomeUnknown => AdminError::TimedOut(error.to_string()),
            AppendError::StorageFull => AdminError::StorageFull,
            AppendError::InvalidTrim { log_start, limit } => AdminError::Invalid {
                detail: error.to_string(),
                fix: format!("send a log_start from {log_start} to {limit}"),
            },
            AppendError::Position(refusal) => match refusal {
                PositionRefusal::Fenced { .. } | PositionRefusal::Conflict { .. } => {
                    AdminError::PositionConflict(refusal.to_string())
                }
                refusal => invalid(&refusal.to_string()),
            },
            other => AdminError::Unavailable(other.to_string()),
        }
    }

    fn not_leader(&self, leader: Option<u64>) -> AdminError {
        let members = self.broker.cluster().members();
        let address = leader.and_then(|leader| members.get(leader).map(|member| member.http.clone()));
        AdminError::NotLeader { leader, address }
    }
}

fn refused(refusal: Refusal) -> AdminError {
    match refusal {
        Refusal::UnknownTopic(name) => AdminError::UnknownTopic(name),
        Refusal::UnknownPartition { topic, partition, .. } => {
            AdminError::UnknownPartition { topic, partition }
        }
        Refusal::TopicExists(name) => AdminError::TopicExists(name),
        Refusal::UnknownBroker(id) => AdminError::UnknownBroker(id),
        Refusal::BrokerInUse { .. } => AdminError::BrokerInUse(refusal.to_string()),
        Refusal::TooFewBrokers { .. } | Refusal::BrokerNeeded { .. } | Refusal::BrokerSilent { .. } => {
            let (detail, fix) = with_fix(&refusal.to_string());
            AdminError::TooFewBrokers { detail, fix }
        }
        Refusal::MovingAlready(_) => AdminError::MovingAlready(refusal.to_string()),
        refusal => invalid(&refusal.to_string()),
    }
}

fn invalid(text: &str) -> AdminError {
    let (detail, fix) = with_fix(text);
    AdminError::Invalid { detail, fix }
}

/// What is wrong, and its fix: the broker's errors name it after the semicolon.
fn with_fix(text: &str) -> (String, String) {
    let (detail, fix) = text.rsplit_once("; ").unwrap_or((text, "correct the value"));
    (detail.to_owned(), fix.to_owned())
}
