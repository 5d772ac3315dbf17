//! Fence: shut out writers of an older epoch.
//!
//! A partition's fencing epoch only rises. An append that states an epoch below it is refused with
//! [`Fenced`](crate::ErrorCode::Fenced); an append that states none is not judged.

use crate::wire::wire_fields;

/// Raises a partition's fencing epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceRequest {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The epoch; one below the present is refused with [`Fenced`](crate::ErrorCode::Fenced).
    pub epoch: u64,
}

wire_fields!(FenceRequest { topic, partition, epoch });

/// The epoch is committed: no append of an older one is accepted after this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceResponse {
    /// The partition's fencing epoch.
    pub epoch: u64,
}

wire_fields!(FenceResponse { epoch });
