//! What clients are told of the cluster.

use lockstep_protocol::native::{
    MetadataRequest, MetadataResponse, NodeInfo, PartitionMetadata, TopicConfig, TopicMetadata,
};
use lockstep_protocol::{Frame, Wire};

use super::asked::{Handled, response};
use super::names::{TOPIC, TOPIC_ID, address, shard_of};
use crate::node::Process;
use crate::placement::Placements;
use crate::plan::Plan;

/// Takes a question for metadata.
pub(super) fn metadata(
    process: &Process,
    plan: &Plan,
    placements: &Placements,
    frame: &Frame,
) -> Option<Handled> {
    MetadataRequest::decode(&frame.meta).ok()?;
    let of_partition = |partition: u32| {
        let view = process.hosted.get(&shard_of(partition)).map(|hosted| hosted.replica.view().clone());
        PartitionMetadata {
            partition,
            shard: shard_of(partition),
            // Of a partition that is not held here: whoever is preferred, as in production.
            leader: match &view {
                Some(view) => view.leader,
                None => placements[&shard_of(partition)].target.first().copied(),
            },
            term: view.map_or(0, |view| view.term),
            replicas: placements[&shard_of(partition)].target.iter().copied().collect(),
            moving_to: None,
        }
    };
    let node = |id| NodeInfo { id, address: address(id), http_address: String::new() };
    let topic = TopicMetadata {
        name: TOPIC.to_owned(),
        id: TOPIC_ID,
        partitions: (0..plan.shards).map(of_partition).collect(),
        config: TopicConfig::default(),
    };
    let nodes = (1..=plan.nodes).map(node).collect();
    let answer = MetadataResponse { nodes, controller: Some(1), topics: vec![Ok(topic)] };
    Some(Handled::Answer(response::<MetadataRequest>(frame.correlation, Ok(answer))))
}
