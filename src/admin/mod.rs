//! The admin interface: health checks, cluster and partition state, operator actions and metrics over HTTP/1.1.
//!
//! What holds here:
//! 1. Each route stands once, in `routes`; `openapi.json` describes exactly these (a test walks both).
//! 2. Every error is an `application/problem+json` (RFC 9457) whose `fix` says what to do.
//! 3. What a request may cost is bounded: head and body sizes, their time, connections, answers of other brokers.
//! 4. There is no authentication: bind it to an address that only operators reach. Bodies must be declared as JSON,
//!    so that a web page cannot make a browser send one.
//!
//! ```text
//!   socket ─ server ─ routes ─ call ─ handlers ──► Control ◄── live: broker, cluster, engine
//!                                        │
//!                              answer ◄──┴── remote: the same interface of the other brokers
//! ```

mod answer;
mod call;
mod control;
mod handlers;
mod live;
mod partition;
mod problem;
mod remote;
mod routes;
mod scrape;
mod server;
mod views;

pub use control::{AdminError, Control, Readiness, ShardSample};
pub use live::BrokerControl;
pub use problem::Problem;
pub use server::{serve, serve_stream};
pub use views::{
    BrokerShareView, BrokerView, ClusterView, LogStart, MoveView, MovesView, NewPosition, NewTopic,
    PartitionView, PositionView, RebalanceView, ReplicaProgressView, ReplicaState, ReplicaView,
    SettingsChange, Source, TopicChange, TopicPartition, TopicSettings, TopicSummary, TopicView, Transfer,
};

/// The description of this interface, kept in step with the routes by a test.
const OPENAPI: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests;
