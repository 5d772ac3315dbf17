//! Brokers: join, list, remove. Any broker passes changes on to the metadata leader.

use crate::wire::wire_fields;

/// Asks that a broker become a member of the cluster. To ask twice with one directory gives the same id twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The random id of its data directory, made durable before this was sent.
    pub directory: [u8; 16],
    /// Where clients will reach it, `host:port`.
    pub native: String,
    /// Where the other brokers will reach it, `host:port`.
    pub peer: String,
    /// Where it will serve health, metrics and administration over HTTP, `host:port`.
    pub http: String,
    /// What fails together with it, such as a rack or a zone.
    pub rack: Option<String>,
}

wire_fields!(JoinRequest { directory, native, peer, http, rack });

/// The broker is a member, durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinResponse {
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// The broker's id from now on; never given to another.
    pub broker: u64,
    /// The brokers that the cluster began with: each copy of the metadata begins with these.
    pub founders: Vec<u64>,
    /// All brokers, this one included.
    pub brokers: Vec<BrokerInfo>,
}

wire_fields!(JoinResponse { cluster, broker, founders, brokers });

/// Asks which brokers there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListBrokersRequest {}

wire_fields!(ListBrokersRequest {});

/// All brokers, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListBrokersResponse {
    /// One each.
    pub brokers: Vec<BrokerInfo>,
}

wire_fields!(ListBrokersResponse { brokers });

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Its id.
    pub id: u64,
    /// The random id of its data directory; nothing of a founder that never started.
    pub directory: Option<[u8; 16]>,
    /// Where clients reach it, `host:port`.
    pub native: String,
    /// Where the other brokers reach it, `host:port`.
    pub peer: String,
    /// Where it serves health, metrics and administration over HTTP, `host:port`.
    pub http: String,
    /// What fails together with it.
    pub rack: Option<String>,
    /// Whether it gives its replicas to others and gets no new ones.
    pub draining: bool,
    /// How many partitions it holds a replica of, or is to hold one.
    pub replicas: u32,
    /// Whether it holds a replica of the metadata that votes, or is to hold one.
    pub metadata: bool,
}

wire_fields!(BrokerInfo { id, directory, native, peer, http, rack, draining, replicas, metadata });

/// Removes a broker that holds no replica, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveBrokerRequest {
    /// Its id.
    pub broker: u64,
}

wire_fields!(RemoveBrokerRequest { broker });

/// The broker is no member any more, durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveBrokerResponse {}

wire_fields!(RemoveBrokerResponse {});
