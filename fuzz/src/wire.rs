//! Targets that decode bytes from a socket.

mod batches;
mod frames;
mod native;
mod peer_messages;
mod peers;
mod raft_messages;

use super::Target;
pub use raft_messages::{entry, raft_message};

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "native_request", input_bytes_max: 1024, run: native::requests },
    Target { name: "native_response", input_bytes_max: 1024, run: native::responses },
    Target { name: "record_batch", input_bytes_max: 1024, run: batches::batches },
    Target { name: "peer_frame", input_bytes_max: 1024, run: peers::frames },
];
