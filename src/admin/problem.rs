//! Errors as problem details (RFC 9457): a stable type, a sentence, and the fix.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::control::AdminError;

/// The body of an error answer; its media type is `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Names the kind of problem for ever: `urn:lockstep:problem:` and a word.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words; the same for all problems of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// What to do about it.
    pub fix: String,
    /// The broker that can do it, where another must.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leader: Option<LeaderAddress>,
}

/// Where to send a request that another broker must serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderAddress {
    /// The broker's id.
    pub broker: u64,
    /// The address of its admin interface, as `host:port`, if known.
    pub address: Option<String>,
}

impl Problem {
    /// A problem of `kind`, whose title is the kind in words.
    pub(super) fn new(
        status: StatusCode,
        kind: &str,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Problem {
        let mut title = kind.replace('-', " ");
        title[..1].make_ascii_uppercase();
        Problem {
            kind: format!("urn:lockstep:problem:{kind}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            fix: fix.into(),
            leader: None,
        }
    }

    /// The body or a value in it cannot be used.
    pub(super) fn invalid(detail: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "invalid-request", detail, fix)
    }

    /// The status as hyper has it.
    pub(super) fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Problem {
        let detail = error.to_string();
        match error {
            AdminError::UnknownTopic(_) => Problem::new(
                StatusCode::NOT_FOUND,
                "unknown-topic",
                detail,
                "correct the name (GET /v1/topics lists them), or create the topic with POST /v1/topics",
            ),
            AdminError::UnknownPartition { topic, .. } => Problem::new(
                StatusCode::NOT_FOUND,
                "unknown-partition",
                detail,
                format!("partitions count from 0; GET /v1/topics/{topic} lists them"),
            ),
            AdminError::NoReplicaHere { topic, .. } => Problem::new(
                StatusCode::NOT_FOUND,
                "no-replica-here",
                detail,
                format!("ask a broker among the partition's replicas; GET /v1/topics/{topic} lists them"),
            ),
            AdminError::TopicExists(_) => Problem::new(
                StatusCode::CONFLICT,
                "topic-exists",
                detail,
                "use the existing topic, or choose another name",
            ),
            AdminError::UnknownBroker(_) => Problem::new(
                StatusCode::NOT_FOUND,
                "unknown-broker",
                detail,
                "correct the id; GET /v1/brokers lists those there are",
            ),
            AdminError::BrokerInUse(_) => Problem::new(
                StatusCode::CONFLICT,
                "broker-in-use",
                detail,
                "drain it first, and wait until it holds nothing (GET /v1/brokers)",
            ),
            AdminError::TooFewBrokers { fix, .. } => {
                Problem::new(StatusCode::CONFLICT, "too-few-brokers", detail, fix)
            }
            AdminError::MovingAlready(_) => Problem::new(
                StatusCode::CONFLICT,
                "moving-already",
                detail,
                "wait for the end of the move (GET /v1/moves), or cancel it",
            ),
            AdminError::PositionConflict(_) => Problem::new(
                StatusCode::CONFLICT,
                "position-conflict",
                detail,
                "read the group's positions in the partition, and decide anew",
            ),
            AdminError::Invalid { fix, .. } => Problem::invalid(detail, fix),
            AdminError::NotLeader { leader, address } => not_leader(detail, leader, address),
            AdminError::TimedOut(_) => Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timed-out",
                detail,
                "look at the state before trying again; it may have been done",
            ),
            AdminError::StorageFull => Problem::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "storage-full",
                detail,
                "free space on the broker's disk, or trim topics",
            ),
            AdminError::Unavailable(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                detail,
                "see /readyz and the broker's log for the reason, and try again",
            ),
        }
    }
}

/// 421 where the leader is known, 503 where there is none at the moment.
fn not_leader(detail: String, leader: Option<u64>, address: Option<String>) -> Problem {
    let Some(broker) = leader else {
        return Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no-leader",
            "no leader is known at the moment",
            "wait for the election, which takes about a second, and try again",
        );
    };
    let fix = match &address {
        Some(address) => format!("send the request to broker {broker} at http://{address}"),
        None => format!("send the request to broker {broker}; GET /v1/brokers lists the addresses"),
    };
    let mut problem = Problem::new(StatusCode::MISDIRECTED_REQUEST, "not-leader", detail, fix);
    problem.leader = Some(LeaderAddress { broker, address });
    problem
}
