//! The peers' handshake: both sides prove that they belong together before a Raft message passes.

use crate::wire::wire_fields;

/// Sent by the broker that connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHello {
    /// Peer protocol version it speaks.
    pub version: u16,
    /// The cluster it belongs to.
    pub cluster: [u8; 16],
    /// Its node id.
    pub from: u64,
    /// The node it means to reach.
    pub to: u64,
    /// The random id of its data directory. A known node with another directory is refused: what it once
    /// acknowledged may be lost with the old one.
    pub directory: [u8; 16],
}

wire_fields!(PeerHello { version, cluster, from, to, directory });

/// The answer to a hello that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerWelcome {
    /// The random id of the answering broker's data directory, to be checked likewise.
    pub directory: [u8; 16],
}

wire_fields!(PeerWelcome { directory });
