//! The requests about moves: drain, move, rebalance, cancel.

use lockstep_protocol::Outcome;
use lockstep_protocol::native::{
    BrokerShare, CancelMovesRequest, CancelMovesResponse, DrainBrokerRequest, DrainBrokerResponse,
    MovePartitionRequest, MovePartitionResponse, PlannedMove, RebalanceRequest, RebalanceResponse,
};

use super::connection::Context;
use super::outcome::ToOutcome;
use crate::cluster::{self, Cancelled};

pub(super) async fn drain(context: &Context, request: DrainBrokerRequest) -> Outcome<DrainBrokerResponse> {
    let DrainBrokerRequest { broker, draining } = request;
    match context.broker.cluster().drain_broker(broker, draining).await {
        Ok(()) => Ok(DrainBrokerResponse {}),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}

pub(super) async fn move_partition(
    context: &Context,
    request: MovePartitionRequest,
) -> Outcome<MovePartitionResponse> {
    let MovePartitionRequest { topic, partition, to } = request;
    match context.broker.cluster().move_partition(&topic, partition, &to).await {
        Ok(()) => Ok(MovePartitionResponse {}),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}

pub(super) async fn rebalance(context: &Context, request: RebalanceRequest) -> Outcome<RebalanceResponse> {
    match context.broker.cluster().rebalance(request.dry_run).await {
        Ok(plan) => Ok(RebalanceResponse {
            brokers: plan.brokers.iter().map(to_share).collect(),
            moves: plan.moves.into_iter().map(to_planned).collect(),
            moves_left: count(plan.moves_left),
            moving: count(plan.moving),
            under_way: plan.under_way,
        }),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}

pub(super) async fn cancel(context: &Context, request: CancelMovesRequest) -> Outcome<CancelMovesResponse> {
    let which = match &request.partition {
        None => Cancelled::All,
        Some(named) => Cancelled::Partition { topic: &named.topic, partition: named.partition },
    };
    match context.broker.cluster().cancel_moves(which).await {
        Ok(cancelled) => Ok(CancelMovesResponse { cancelled: count(cancelled) }),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}

fn to_share(share: &cluster::BrokerShare) -> BrokerShare {
    BrokerShare {
        broker: share.broker,
        draining: share.draining,
        replicas_before: count(share.replicas_before),
        replicas_after: count(share.replicas_after),
        leaders_before: count(share.leaders_before),
        leaders_after: count(share.leaders_after),
    }
}

fn to_planned(planned: cluster::PlannedMove) -> PlannedMove {
    let cluster::PlannedMove { topic, partition, reassignment } = planned;
    PlannedMove { topic, partition, from: reassignment.from, to: reassignment.to }
}

fn count(many: usize) -> u32 {
    u32::try_from(many).unwrap_or(u32::MAX)
}
