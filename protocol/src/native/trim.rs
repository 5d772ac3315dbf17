//! Trim: give up the oldest records of a partition.

use crate::wire::wire_fields;

/// Moves a partition's log start forward. The leader alone does it, and all replicas follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrimRequest {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// First LSN to keep, at most the high watermark + 1. Below the present log start: nothing happens.
    pub log_start: u64,
}

wire_fields!(TrimRequest { topic, partition, log_start });

/// The trim is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrimResponse {
    /// The log start now. Files go whole, so disk space may be freed later.
    pub log_start: u64,
}

wire_fields!(TrimResponse { log_start });
