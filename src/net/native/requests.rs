//! The requests that are one question and one answer: topics, ends, times, trim, fence, producer ids.

use std::time::Duration;

use lockstep_protocol::native::{
    AlterTopicRequest, AlterTopicResponse, Api, CreateTopicRequest, CreateTopicResponse, DeleteTopicRequest,
    DeleteTopicResponse, DescribeTopicRequest, DescribeTopicResponse, FenceRequest, FenceResponse,
    InitProducerRequest, InitProducerResponse, ListTopicsRequest, ListTopicsResponse, LsnForTimeRequest,
    LsnForTimeResponse, MetadataRequest, MetadataResponse, NodeInfo, PartitionStatus, TailRequest,
    TailResponse, TopicMetadata, TopicSummary, TrimRequest, TrimResponse,
};
use lockstep_protocol::{ErrorCode, ErrorOutcome, Frame, Outcome, Request};

use super::brokers;
use super::connection::Context;
use super::fetch;
use super::moves;
use super::outbound::Gone;
use super::outcome::{ToOutcome, to_metadata, to_settings};
use super::positions;
use crate::broker::{Broker, TopicError, TopicView};
use crate::cluster::{NewTopic, SettingsChange, TopicChange};

/// The longest a client may wait for a new topic's leaders.
const CREATE_WAIT_MAX: Duration = Duration::from_secs(60);

/// Serves one request that needs no order.
pub(super) async fn serve(context: &Context, frame: &Frame) -> Result<(), Gone> {
    match frame.api {
        Api::Fetch => fetch::serve(context, frame).await,
        Api::Metadata => ask(context, frame, metadata).await,
        Api::CreateTopic => ask(context, frame, create_topic).await,
        Api::DeleteTopic => ask(context, frame, delete_topic).await,
        Api::AlterTopic => ask(context, frame, alter_topic).await,
        Api::Join => ask(context, frame, brokers::join).await,
        Api::ListBrokers => ask(context, frame, brokers::list).await,
        Api::RemoveBroker => ask(context, frame, brokers::remove).await,
        Api::DrainBroker => ask(context, frame, moves::drain).await,
        Api::MovePartition => ask(context, frame, moves::move_partition).await,
        Api::Rebalance => ask(context, frame, moves::rebalance).await,
        Api::CancelMoves => ask(context, frame, moves::cancel).await,
        Api::DescribeTopic => ask(context, frame, describe_topic).await,
        Api::ListTopics => ask(context, frame, list_topics).await,
        Api::Tail => ask(context, frame, tail).await,
        Api::LsnForTime => ask(context, frame, lsn_for_time).await,
        Api::Trim => ask(context, frame, trim).await,
        Api::Fence => ask(context, frame, fence).await,
        Api::InitProducer => ask(context, frame, init_producer).await,
        Api::CommitPosition => ask(context, frame, positions::commit).await,
        Api::ListPositions => ask(context, frame, positions::list).await,
        Api::DeletePositions => ask(context, frame, positions::delete).await,
        Api::Hello | Api::Produce | Api::Subscribe | Api::Credit | Api::Unsubscribe => {
            let outcome = ErrorOutcome::from(ErrorCode::UnknownRequest);
            context.refuse(frame, &outcome).await
        }
    }
}

/// The api's name as metrics have it.
pub(super) fn label(api: Api) -> &'static str {
    match api {
        Api::Hello => "hello",
        Api::Metadata => "metadata",
        Api::CreateTopic => "create_topic",
        Api::DeleteTopic => "delete_topic",
        Api::AlterTopic => "alter_topic",
        Api::Join => "join",
        Api::ListBrokers => "list_brokers",
        Api::RemoveBroker => "remove_broker",
        Api::DrainBroker => "drain_broker",
        Api::MovePartition => "move_partition",
        Api::Rebalance => "rebalance",
        Api::CancelMoves => "cancel_moves",
        Api::DescribeTopic => "describe_topic",
        Api::ListTopics => "list_topics",
        Api::Produce => "produce",
        Api::Fetch => "fetch",
        Api::Subscribe => "subscribe",
        Api::Credit => "credit",
        Api::Unsubscribe => "unsubscribe",
        Api::Tail => "tail",
        Api::LsnForTime => "lsn_for_time",
        Api::Trim => "trim",
        Api::Fence => "fence",
        Api::InitProducer => "init_producer",
        Api::CommitPosition => "commit_position",
        Api::ListPositions => "list_positions",
        Api::DeletePositions => "delete_positions",
    }
}

async fn ask<R: Request>(
    context: &Context,
    frame: &Frame,
    answer: impl AsyncFnOnce(&Context, R) -> Outcome<R::Response>,
) -> Result<(), Gone> {
    if !frame.payload.is_empty() {
        let message = "this request takes no payload: send the message alone";
        return context.refuse(frame, &ErrorOutcome::new(ErrorCode::MalformedRequest, message)).await;
    }
    let Some(request) = context.decode::<R>(frame).await? else { return Ok(()) };
    let outcome = answer(context, request).await;
    context.answer::<R>(frame, outcome).await
}

async fn metadata(context: &Context, request: MetadataRequest) -> Outcome<MetadataResponse> {
    let broker = &context.broker;
    let members = broker.cluster().members();
    let nodes = members.iter().map(|member| NodeInfo {
        id: member.id,
        address: member.native.clone(),
        http_address: member.http.clone(),
    });
    let topics = match request.topics {
        None => {
            let topics = broker.all_topics().await.map_err(|error| error.to_outcome(broker))?;
            topics.iter().map(|view| Ok(to_metadata(view))).collect()
        }
        Some(names) => find_topics(broker, &names, request.create_missing).await,
    };
    Ok(MetadataResponse { nodes: nodes.collect(), controller: broker.cluster().controller().0, topics })
}

/// The topics of these names. News is waited for once: a request of many unknown names takes no longer.
async fn find_topics(broker: &Broker, names: &[String], create_missing: bool) -> Vec<Outcome<TopicMetadata>> {
    let mut topics = Vec::with_capacity(names.len());
    let mut waited = false;
    for name in names {
        let found = match broker.topic_now(name) {
            Some(known) => Ok(known),
            None if create_missing && broker.creates_missing() => broker.topic_or_create(name).await,
            None if waited => broker.topic_or_why(name),
            None => {
                waited = true;
                broker.topic(name).await
            }
        };
        topics
            .push(found.map(|view| to_metadata(&view)).map_err(|error: TopicError| error.to_outcome(broker)));
    }
    topics
}

async fn create_topic(context: &Context, request: CreateTopicRequest) -> Outcome<CreateTopicResponse> {
    if request.partitions == 0 {
        return Err(ErrorOutcome::new(ErrorCode::InvalidPartitionCount, "a topic has at least 1 partition"));
    }
    let topic = NewTopic {
        name: request.name,
        partitions: request.partitions,
        replication: request.replication,
        settings: to_settings(&request.config),
    };
    let wait = Duration::from_millis(request.timeout_ms.into()).min(CREATE_WAIT_MAX);
    match context.broker.create_topic(&topic, wait).await {
        Ok(view) => Ok(CreateTopicResponse { topic: to_metadata(&view) }),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}

async fn alter_topic(context: &Context, request: AlterTopicRequest) -> Outcome<AlterTopicResponse> {
    let change = TopicChange {
        partitions: request.partitions,
        settings: SettingsChange {
            retention_bytes: request.retention_bytes,
            retention_ms: request.retention_ms,
            max_batch_bytes: request.max_batch_bytes,
            trust_producers: request.trust_producers,
        },
    };
    let wait = Duration::from_millis(request.timeout_ms.into()).min(CREATE_WAIT_MAX);
    match context.broker.alter_topic(&request.name, &change, wait).await {
        Ok(view) => Ok(AlterTopicResponse { topic: to_metadata(&view) }),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}

async fn delete_topic(context: &Context, request: DeleteTopicRequest) -> Outcome<DeleteTopicResponse> {
    match context.broker.delete_topic(&request.name).await {
        Ok(()) => Ok(DeleteTopicResponse {}),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}

async fn describe_topic(context: &Context, request: DescribeTopicRequest) -> Outcome<DescribeTopicResponse> {
    let broker = &context.broker;
    let view = broker.topic(&request.name).await.map_err(|error| error.to_outcome(broker))?;
    let statuses = broker.partition_statuses(&view.topic).await;
    let to_status = |status: crate::broker::PartitionStatus| PartitionStatus {
        partition: status.partition,
        log_start: status.log_start,
        high_watermark: status.high_watermark,
        bytes: status.bytes,
    };
    let partitions = statuses.into_iter().map(to_status).collect();
    Ok(DescribeTopicResponse { topic: to_metadata(&view), partitions })
}

async fn list_topics(context: &Context, _: ListTopicsRequest) -> Outcome<ListTopicsResponse> {
    let topics = context.broker.all_topics().await.map_err(|error| error.to_outcome(&context.broker))?;
    let summary = |view: &TopicView| TopicSummary {
        name: view.topic.name.clone(),
        partitions: u32::try_from(view.topic.partitions.len()).unwrap_or(u32::MAX),
    };
    Ok(ListTopicsResponse { topics: topics.iter().map(summary).collect() })
}

async fn tail(context: &Context, request: TailRequest) -> Outcome<TailResponse> {
    let tail = context.broker.tail(&request.topic, request.partition, request.linearizable).await;
    let tail = tail.map_err(|error| error.to_outcome(&context.broker))?;
    Ok(TailResponse {
        log_start: tail.log_start,
        high_watermark: tail.high_watermark,
        next_lsn: tail.next_lsn,
        term: tail.term,
        leader_time_ms: tail.leader_time_ms,
    })
}

async fn lsn_for_time(context: &Context, request: LsnForTimeRequest) -> Outcome<LsnForTimeResponse> {
    let LsnForTimeRequest { topic, partition, timestamp_ms } = request;
    match context.broker.lsn_for_time(&topic, partition, timestamp_ms).await {
        Ok(Some(found)) => Ok(LsnForTimeResponse { lsn: Some(found.lsn), timestamp_ms: found.timestamp_ms }),
        Ok(None) => Ok(LsnForTimeResponse { lsn: None, timestamp_ms }),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}

async fn trim(context: &Context, request: TrimRequest) -> Outcome<TrimResponse> {
    if request.log_start == 0 {
        return Err(ErrorCode::InvalidLsn.into());
    }
    match context.broker.trim(&request.topic, request.partition, request.log_start).await {
        Ok(log_start) => Ok(TrimResponse { log_start }),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}

async fn fence(context: &Context, request: FenceRequest) -> Outcome<FenceResponse> {
    match context.broker.fence(&request.topic, request.partition, request.epoch).await {
        Ok(epoch) => Ok(FenceResponse { epoch }),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}

async fn init_producer(context: &Context, _: InitProducerRequest) -> Outcome<InitProducerResponse> {
    match context.broker.new_producer_id().await {
        Ok(producer_id) => Ok(InitProducerResponse { producer_id, epoch: 0 }),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}
