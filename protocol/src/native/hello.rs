//! Hello: the handshake, first on each connection.
//!
//! Both sides learn that they share a protocol version and mean the same cluster, and the client learns the
//! limits it must stay within. Until it has succeeded, every other request is answered
//! [`HandshakeRequired`](crate::ErrorCode::HandshakeRequired).

use crate::wire::wire_fields;

/// Opens a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloRequest {
    /// Lowest protocol version the client speaks.
    pub min_version: u16,
    /// Highest protocol version the client speaks.
    pub max_version: u16,
    /// The cluster the client means; `None` to learn it. Another cluster's broker answers
    /// [`ClusterMismatch`](crate::ErrorCode::ClusterMismatch).
    pub cluster: Option<[u8; 16]>,
    /// What the client calls itself, for the broker's log.
    pub client: String,
}

wire_fields!(HelloRequest { min_version, max_version, cluster, client });

/// What the client must know of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloResponse {
    /// The version to be used from here on: the highest both speak.
    pub version: u16,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// The broker's node id.
    pub node: u64,
    /// Longest frame the broker accepts, in bytes, length field included.
    pub max_frame_bytes: u32,
    /// Longest record batch it accepts, in bytes.
    pub max_batch_bytes: u32,
    /// Longest record it accepts, in bytes of its encoding.
    pub max_record_bytes: u32,
}

wire_fields!(HelloResponse { version, cluster, node, max_frame_bytes, max_batch_bytes, max_record_bytes });
