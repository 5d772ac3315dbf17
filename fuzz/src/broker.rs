//! Targets above the log: what peers, operators and files say to a broker, and what brokers say to a consumer.

mod admin;
mod consumed;
mod derived;
mod settings;
mod shard;

use super::Target;

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "shard_history", input_bytes_max: 1024, run: shard::history },
    Target { name: "derived_state", input_bytes_max: 1024, run: derived::state },
    Target { name: "metadata_commands", input_bytes_max: 1024, run: derived::metadata },
    Target { name: "configuration", input_bytes_max: 1024, run: settings::configuration },
    Target { name: "admin_http", input_bytes_max: 2048, run: admin::http },
    Target { name: "consumed_batches", input_bytes_max: 2048, run: consumed::payloads },
];
