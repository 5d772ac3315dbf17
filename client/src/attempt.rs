//! What follows from one failed attempt: what is believed of the cluster from now on, and how long to wait.
//!
//! What holds: no clock, socket or randomness of its own. The async client and the simulator call the same function.

use std::time::Duration;

use crate::error::RequestError;
use crate::jitter::Jitter;
use crate::retry::{Failure, Retry, Route, Verdict};
use crate::routing::{NodeId, RoutingTable};

/// Which broker a request is for.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// Any.
    Any,
    /// The one that leads the metadata.
    Controller,
    /// The one that leads a partition.
    Leader(&'a str, u32),
    /// Any that holds a partition: the preferred one first.
    Replica(&'a str, u32, Option<NodeId>),
    /// This one and no other.
    Node(NodeId),
}

/// Judges a failed attempt: corrects the routes and says how long to wait before the next.
///
/// # Errors
/// There is no next attempt, and this is what the caller is told.
pub fn judge(
    retry: &mut Retry,
    routing: &mut RoutingTable,
    target: Target<'_>,
    node: Option<NodeId>,
    failure: Failure,
    now: Duration,
    jitter: &mut dyn Jitter,
) -> Result<Duration, RequestError> {
    match retry.failed(&failure, now, jitter) {
        Verdict::GiveUp => Err(RequestError::gave_up(failure)),
        Verdict::BudgetSpent => Err(RequestError::budget_spent(retry.failures(), &failure)),
        Verdict::Again { after, route } => {
            correct_route(routing, target, node, &route);
            Ok(after)
        }
    }
}

fn correct_route(routing: &mut RoutingTable, target: Target<'_>, node: Option<NodeId>, route: &Route) {
    match (target, route) {
        (_, Route::Same) => {}
        (Target::Leader(topic, partition), Route::Follow(hint)) => {
            // A broker that names another as leader is not the leader.
            if let Some(node) = node.filter(|node| *node != hint.node) {
                routing.forget_leader(topic, partition, node);
            }
            routing.follow(topic, partition, hint);
        }
        (Target::Controller, Route::Follow(hint)) => routing.follow_controller(hint),
        (Target::Leader(topic, partition), Route::Refresh) => {
            if let Some(node) = node {
                routing.forget_leader(topic, partition, node);
            }
        }
        (Target::Controller, Route::Refresh) => routing.forget_controller(),
        (Target::Any | Target::Replica(..) | Target::Node(_), _) => {}
    }
}
