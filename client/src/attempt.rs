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
    let is_partition = matches!(target, Target::Leader(..) | Target::Replica(..));
    // The metadata named it if a broker was asked for it, now or before.
    let is_named = is_partition && (node.is_some() || retry.failures() > 0);
    let judged =
        if is_named { failure.clone().of_named_partition(retry.failures()) } else { failure.clone() };
    match retry.failed(&judged, now, jitter) {
        Verdict::GiveUp => Err(RequestError::gave_up(failure)),
        // There was no time to find out more.
        Verdict::BudgetSpent if !failure.is_retryable() => Err(RequestError::gave_up(failure)),
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
            // Whoever refuses is not the leader, and if it names itself it does not know who is.
            if let Some(node) = node {
                routing.forget_leader(topic, partition, node);
            }
            if node != Some(hint.node) {
                routing.follow(topic, partition, hint);
            }
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

#[cfg(test)]
mod tests {
    use lockstep_protocol::{ErrorCode, ErrorOutcome, LeaderHint};

    use super::*;
    use crate::retry::{Repeat, RetryPolicy};
    use crate::routing::{Leadership, PartitionRoute};

    #[test]
    fn a_broker_that_refuses_and_names_itself_is_not_asked_again() {
        let mut routing = RoutingTable::default();
        routing.set_nodes([(1, "one".to_owned()), (2, "two".to_owned())], None);
        let leadership = Leadership { leader: Some(1), term: 3 };
        routing.set_topic("t", 1, [(0, PartitionRoute { leadership, replicas: vec![1, 2] })]);
        let mut refused = |node, hint| {
            let hint = LeaderHint { node: hint, address: String::new(), term: 0 };
            correct_route(&mut routing, Target::Leader("t", 0), Some(node), &Route::Follow(hint));
            routing.leader("t", 0).map(|(leader, _)| leader)
        };
        assert_eq!(refused(1, 2), Some(2), "it names another");
        assert_eq!(refused(2, 2), None, "nobody is known: the metadata is asked");
    }

    #[test]
    fn a_broker_that_has_not_heard_of_a_topic_is_not_believed_at_once() {
        struct Least;
        impl Jitter for Least {
            fn next(&mut self) -> u64 {
                0
            }
        }
        let unheard_of = || Failure::Refused(ErrorOutcome::new(ErrorCode::UnknownTopic, "no such topic"));
        let attempts = |target: Target<'_>, node, policy| {
            let mut retry = Retry::new(policy, Repeat::Harmless, Duration::ZERO);
            let mut routing = RoutingTable::default();
            let mut verdicts = std::iter::from_fn(|| {
                Some(judge(&mut retry, &mut routing, target, node, unheard_of(), Duration::ZERO, &mut Least))
            });
            let (again, error) =
                verdicts.by_ref().take(100).enumerate().find(|(_, verdict)| verdict.is_err())?;
            assert!(matches!(error, Err(RequestError::Refused { .. })), "{error:?}");
            Some(again)
        };
        let (patient, leader) = (RetryPolicy::default(), Target::Leader("t", 0));
        assert!(attempts(leader, Some(1), patient).is_some_and(|attempts| (3..10).contains(&attempts)));
        let hasty = RetryPolicy { budget: Duration::ZERO, ..patient };
        assert_eq!(attempts(leader, Some(1), hasty), Some(0), "no time to find out");
        assert_eq!(attempts(leader, None, patient), Some(0), "the metadata does not name it");
        assert_eq!(attempts(Target::Any, Some(1), patient), Some(0));
    }
}
