//! Brokers as the metadata knows them.

use serde::{Deserialize, Serialize};

use crate::identity::DirectoryId;

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id; never given to another broker.
    pub id: u64,
    /// Its data directory. A broker that lost it comes back under a new id: it has forgotten what it acknowledged.
    pub directory: DirectoryId,
    /// Where clients reach it, as `host:port`.
    pub native: String,
    /// Where other brokers reach it.
    pub peer: String,
    /// Where its admin API is.
    pub http: String,
    /// What fails together with it: replicas of one partition go to different racks where there are enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
}

/// What a broker is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    /// It holds replicas.
    #[default]
    Active,
    /// It gives its replicas to others and gets no new ones.
    Draining,
}
