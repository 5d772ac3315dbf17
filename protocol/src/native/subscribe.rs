//! Subscribe: the broker pushes batches as they commit, as far as the client's credit reaches.
//!
//! The correlation of the subscribe request names the subscription on its connection: pushes carry it, credit
//! and unsubscribe refer to it. Each push takes its payload's bytes off the credit. The broker pushes while
//! the credit is above zero, so the last push before a pause may overdraw it by less than one push.

use crate::wire::wire_fields;

/// Opens a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// First LSN wanted; a batch that contains it comes whole.
    pub from_lsn: u64,
    /// Payload bytes the broker may push before it is granted more.
    pub credit_bytes: u64,
    /// Payload bytes a push should not exceed, except by its first batch.
    pub max_push_bytes: u32,
}

wire_fields!(SubscribeRequest { topic, partition, from_lsn, credit_bytes, max_push_bytes });

/// The subscription is open; pushes follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeResponse {
    /// First LSN still kept.
    pub log_start: u64,
    /// Last LSN this replica knows to be committed.
    pub high_watermark: u64,
}

wire_fields!(SubscribeResponse { log_start, high_watermark });

/// Batches for a subscription, or (as an error outcome) why it ends. The payload is the batches, back to back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Last LSN this replica knows to be committed.
    pub high_watermark: u64,
    /// LSN of the first record in the payload.
    pub first_lsn: u64,
    /// Bytes of the payload.
    pub payload_length: u32,
}

wire_fields!(Push { high_watermark, first_lsn, payload_length });

/// Lets the broker push more. It has no response; for an unknown subscription nothing happens, as it may
/// have ended while the grant was under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// Correlation of the subscribe request.
    pub subscription: u32,
    /// Payload bytes to add.
    pub bytes: u64,
}

wire_fields!(Credit { subscription, bytes });

/// Ends a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubscribeRequest {
    /// Correlation of the subscribe request.
    pub subscription: u32,
}

wire_fields!(UnsubscribeRequest { subscription });

/// The subscription has ended; no push for it follows this response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubscribeResponse {}

wire_fields!(UnsubscribeResponse {});
