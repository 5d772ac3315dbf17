//! The broker's configuration: one TOML file, overridden by the environment, overridden by flags.
//!
//! What holds:
//! - A [`Config`] obtained from [`Config::load`] or checked with [`Config::validate`] is consistent: every
//!   size fits the ones above it, and the node is one of the founders, if it lists them.
//! - Every setting has one name. `limits.inflight_bytes` in the file is `LOCKSTEP_LIMITS_INFLIGHT_BYTES` in
//!   the environment ([`settings`] lists them all).
//! - Every refusal names the setting and what to write instead.

mod error;
mod flags;
mod model;
mod sources;
mod validate;

pub use error::ConfigError;
pub use flags::ServeFlags;
pub use model::Config;
pub use model::{Advertise, Limits, Listen, LogFormat, Logging, Node, Raft, Retention, Storage, Topics};
pub use sources::settings;
pub use validate::is_address;
