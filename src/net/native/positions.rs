//! Requests about consumer groups' positions.

use lockstep_protocol::Outcome;
use lockstep_protocol::native::{
    CommitPositionRequest, CommitPositionResponse, DeletePositionsRequest, DeletePositionsResponse,
    ListPositionsRequest, ListPositionsResponse, Position, PositionCommit,
};

use super::connection::Context;
use super::outcome::ToOutcome;
use crate::broker::{GroupCommit, GroupPosition};

pub(super) async fn commit(
    context: &Context,
    request: CommitPositionRequest,
) -> Outcome<CommitPositionResponse> {
    let broker = &context.broker;
    let commit = to_commit(request.position);
    match broker.commit_position(&request.topic, request.partition, commit).await {
        Ok(()) => Ok(CommitPositionResponse {}),
        Err(error) => Err(error.to_outcome(broker)),
    }
}

pub(super) async fn list(context: &Context, request: ListPositionsRequest) -> Outcome<ListPositionsResponse> {
    let broker = &context.broker;
    match broker.positions(&request.topic, request.partition, request.group.as_deref()).await {
        Ok(kept) => Ok(ListPositionsResponse { positions: kept.into_iter().map(to_position).collect() }),
        Err(error) => Err(error.to_outcome(broker)),
    }
}

pub(super) async fn delete(
    context: &Context,
    request: DeletePositionsRequest,
) -> Outcome<DeletePositionsResponse> {
    let broker = &context.broker;
    let DeletePositionsRequest { topic, partition, group, source } = request;
    let source = source.as_ref().map(|source| (source.topic.as_str(), source.partition));
    match broker.delete_positions(&topic, partition, &group, source).await {
        Ok(()) => Ok(DeletePositionsResponse {}),
        Err(error) => Err(error.to_outcome(broker)),
    }
}

/// A client's commit as the broker knows it.
pub(super) fn to_commit(commit: PositionCommit) -> GroupCommit {
    GroupCommit {
        group: commit.group,
        topic: commit.topic,
        partition: commit.partition,
        next_lsn: commit.next_lsn,
        generation: commit.generation,
        metadata: commit.metadata,
        expected_next_lsn: commit.expected_next_lsn,
        expected_generation: commit.expected_generation,
    }
}

fn to_position(position: GroupPosition) -> Position {
    Position {
        group: position.group.to_string(),
        topic: position.topic,
        partition: position.partition,
        next_lsn: position.next_lsn,
        generation: position.generation,
        metadata: position.metadata.to_string(),
        leader_time_ms: position.leader_time_ms,
    }
}
