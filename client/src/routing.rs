//! Who leads what, as far as this client has heard: a table without IO.
//!
//! What holds:
//!
//! - Of two statements about a partition's leader the one with the greater term wins. A leader that refused or
//!   vanished is forgotten; after that any statement is better than none.
//! - Iteration is in order of ids and names: equal tables behave alike.

use std::collections::BTreeMap;

use lockstep_protocol::LeaderHint;
use lockstep_protocol::native::{MetadataResponse, TopicMetadata};

/// A broker's id.
pub type NodeId = u64;

/// A partition's leader and the term it leads in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if there is one.
    pub leader: Option<NodeId>,
    /// The term this was said of.
    pub term: u64,
}

impl Leadership {
    /// Whether it stands against what is said of `term`. Where no leader is known, an old one is worth asking:
    /// it knows its successor.
    fn outlives(&self, term: u64) -> bool {
        self.leader.is_some() && self.term > term
    }
}

/// What is known of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRoute {
    /// Who leads.
    pub leadership: Leadership,
    /// Who holds a copy: any of them serves reads.
    pub replicas: Vec<NodeId>,
}

/// What is known of one topic.
#[derive(Debug, Clone, Default)]
struct TopicRoutes {
    /// Another topic of the same name has another id.
    id: u32,
    /// Its own limit on a batch, in bytes.
    batch_bytes_max: Option<u32>,
    partitions: BTreeMap<u32, PartitionRoute>,
}

/// The cluster as last heard of.
#[derive(Debug, Clone, Default)]
pub struct RoutingTable {
    nodes: BTreeMap<NodeId, String>,
    topics: BTreeMap<String, TopicRoutes>,
    controller: Option<NodeId>,
}

impl RoutingTable {
    /// Takes over the brokers and who leads the metadata.
    pub fn set_nodes(
        &mut self,
        nodes: impl IntoIterator<Item = (NodeId, String)>,
        controller: Option<NodeId>,
    ) {
        self.nodes = nodes.into_iter().collect();
        self.controller = controller;
    }

    /// Takes over a topic's partitions; leadership of a smaller term than known is not believed, and no partition is forgotten:
    /// whoever knows fewer has not heard of the others yet. Terms of a topic that was made anew begin anew: nothing is kept
    /// of one with another id.
    pub fn set_topic(
        &mut self,
        name: &str,
        id: u32,
        partitions: impl IntoIterator<Item = (u32, PartitionRoute)>,
    ) {
        let old = self.topics.remove(name).filter(|known| known.id == id).unwrap_or_default();
        let mut known = old.partitions;
        let fresh = partitions.into_iter().map(|(partition, mut route)| {
            if let Some(old) = known.get(&partition)
                && old.leadership.outlives(route.leadership.term)
            {
                route.leadership = old.leadership;
            }
            (partition, route)
        });
        let fresh: Vec<_> = fresh.collect();
        known.extend(fresh);
        let batch_bytes_max = old.batch_bytes_max;
        self.topics.insert(name.to_owned(), TopicRoutes { id, batch_bytes_max, partitions: known });
    }

    /// Takes over the brokers of a metadata answer.
    pub fn learn_nodes(&mut self, answer: &MetadataResponse) {
        self.set_nodes(answer.nodes.iter().map(|node| (node.id, node.address.clone())), answer.controller);
    }

    /// Takes over a topic of a metadata answer.
    pub fn learn_topic(&mut self, topic: &TopicMetadata) {
        let routes = topic.partitions.iter().map(|partition| {
            let leadership = Leadership { leader: partition.leader, term: partition.term };
            (partition.partition, PartitionRoute { leadership, replicas: partition.replicas.clone() })
        });
        self.set_topic(&topic.name, topic.id, routes);
        self.set_batch_bytes_max(&topic.name, topic.config.max_batch_bytes);
    }

    /// Takes over a known topic's own limit on a batch, in bytes.
    pub fn set_batch_bytes_max(&mut self, name: &str, limit: Option<u32>) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.batch_bytes_max = limit;
        }
    }

    /// A topic's own limit on a batch, in bytes, if it has one.
    #[must_use]
    pub fn batch_bytes_max(&self, name: &str) -> Option<u32> {
        self.topics.get(name)?.batch_bytes_max
    }

    /// Forgets a topic that is no more.
    pub fn remove_topic(&mut self, name: &str) {
        self.topics.remove(name);
    }

    /// Believes a hint, unless it is older than what is known. Returns whether it was believed.
    pub fn follow(&mut self, topic: &str, partition: u32, hint: &LeaderHint) -> bool {
        let Some(route) = self.partition_mut(topic, partition) else { return false };
        if route.leadership.outlives(hint.term) {
            return false;
        }
        route.leadership = Leadership { leader: Some(hint.node), term: hint.term };
        if !hint.address.is_empty() {
            self.nodes.insert(hint.node, hint.address.clone());
        }
        true
    }

    /// Believes a hint about who leads the metadata.
    pub fn follow_controller(&mut self, hint: &LeaderHint) {
        self.controller = Some(hint.node);
        if !hint.address.is_empty() {
            self.nodes.insert(hint.node, hint.address.clone());
        }
    }

    /// Forgets that `node` leads the partition: it refused, or it is gone.
    pub fn forget_leader(&mut self, topic: &str, partition: u32, node: NodeId) {
        if let Some(route) = self.partition_mut(topic, partition)
            && route.leadership.leader == Some(node)
        {
            route.leadership.leader = None;
        }
    }

    /// Forgets who leads the metadata.
    pub fn forget_controller(&mut self) {
        self.controller = None;
    }

    /// The leader of a partition: its id and address.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: u32) -> Option<(NodeId, &str)> {
        self.addressed(self.partition(topic, partition)?.leadership.leader?)
    }

    /// Who leads the metadata: id and address.
    #[must_use]
    pub fn controller(&self) -> Option<(NodeId, &str)> {
        self.addressed(self.controller?)
    }

    /// Address of a broker.
    #[must_use]
    pub fn address(&self, node: NodeId) -> Option<&str> {
        self.nodes.get(&node).map(String::as_str)
    }

    /// One partition.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: u32) -> Option<&PartitionRoute> {
        self.topics.get(topic)?.partitions.get(&partition)
    }

    fn partition_mut(&mut self, topic: &str, partition: u32) -> Option<&mut PartitionRoute> {
        self.topics.get_mut(topic)?.partitions.get_mut(&partition)
    }

    /// The id of a known topic.
    #[must_use]
    pub fn topic_id(&self, topic: &str) -> Option<u32> {
        self.topics.get(topic).map(|topic| topic.id)
    }

    /// How many partitions a known topic has.
    #[must_use]
    pub fn partition_count(&self, topic: &str) -> Option<u32> {
        self.topics.get(topic).map(|topic| u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX))
    }

    /// All brokers, by id.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &str)> {
        self.nodes.iter().map(|(node, address)| (*node, address.as_str()))
    }

    /// The broker to read a partition from in attempt `attempt`: `preferred` first if it holds a copy, then
    /// the leader, then the others in turn.
    #[must_use]
    pub fn replica_for_read(
        &self,
        topic: &str,
        partition: u32,
        preferred: Option<NodeId>,
        attempt: usize,
    ) -> Option<(NodeId, &str)> {
        let route = self.partition(topic, partition)?;
        let mut order: Vec<NodeId> = Vec::with_capacity(route.replicas.len());
        let first = [preferred.filter(|node| route.replicas.contains(node)), route.leadership.leader];
        for node in first.into_iter().flatten().chain(route.replicas.iter().copied()) {
            if !order.contains(&node) && self.nodes.contains_key(&node) {
                order.push(node);
            }
        }
        let chosen = *order.get(attempt.checked_rem(order.len())?)?;
        self.addressed(chosen)
    }

    /// The addresses of those who can say who leads a partition: who holds it, or all brokers where that is not known. Whoever
    /// holds nothing of it repeats what the metadata says, which knows of no election.
    #[must_use]
    pub fn witnesses(&self, topic: &str, partition: u32, but: Option<NodeId>) -> Vec<String> {
        let holders = self.partition(topic, partition).map_or(&[][..], |route| &route.replicas);
        let asked = self.nodes().filter(|(node, _)| holders.is_empty() || holders.contains(node));
        asked.filter(|(node, _)| Some(*node) != but).map(|(_, address)| address.to_owned()).collect()
    }

    fn addressed(&self, node: NodeId) -> Option<(NodeId, &str)> {
        Some((node, self.nodes.get(&node)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_nothing_of_a_partition_is_not_asked_who_leads_it() {
        let mut table = RoutingTable::default();
        table.set_nodes((1..=5).map(|node| (node, format!("b{node}"))), None);
        assert_eq!(table.witnesses("t", 0, Some(3)), ["b1", "b2", "b4", "b5"], "nobody knows who holds it");
        let leadership = Leadership { leader: Some(3), term: 4 };
        table.set_topic("t", 1, [(0, PartitionRoute { leadership, replicas: vec![3, 4, 5] })]);
        assert_eq!(table.witnesses("t", 0, Some(3)), ["b4", "b5"]);
        assert_eq!(table.witnesses("t", 0, None), ["b3", "b4", "b5"]);
    }

    fn route(leader: Option<NodeId>, term: u64) -> PartitionRoute {
        PartitionRoute { leadership: Leadership { leader, term }, replicas: vec![1, 2, 3] }
    }

    fn table(leader: Option<NodeId>, term: u64) -> RoutingTable {
        let mut table = RoutingTable::default();
        table.set_nodes((1..=3).map(|node| (node, format!("b{node}:1"))), Some(1));
        table.set_topic("t", 1, [(0, route(leader, term))]);
        table
    }

    fn hint(node: NodeId, term: u64) -> LeaderHint {
        LeaderHint { node, address: format!("b{node}:2"), term }
    }

    #[test]
    fn a_hint_of_an_older_term_is_not_believed() {
        let mut table = table(Some(2), 5);
        assert!(!table.follow("t", 0, &hint(3, 4)));
        assert_eq!(table.leader("t", 0), Some((2, "b2:1")));
        assert!(table.follow("t", 0, &hint(3, 6)));
        assert_eq!(table.leader("t", 0), Some((3, "b3:2")));
    }

    #[test]
    fn metadata_of_an_older_term_does_not_undo_a_hint() {
        let mut table = table(Some(2), 5);
        table.follow("t", 0, &hint(3, 6));
        table.set_topic("t", 1, [(0, route(Some(2), 5))]);
        assert_eq!(table.leader("t", 0), Some((3, "b3:2")));
    }

    #[test]
    fn whoever_knows_fewer_partitions_of_a_topic_makes_none_forgotten() {
        let mut table = table(Some(2), 5);
        table.set_topic("t", 1, [(0, route(Some(2), 5)), (1, route(Some(2), 1))]);
        table.set_topic("t", 1, [(0, route(Some(3), 6))]);
        let leaders = |table: &RoutingTable| {
            [0, 1].map(|partition| table.leader("t", partition).map(|(leader, _)| leader))
        };
        assert_eq!(leaders(&table), [Some(3), Some(2)]);
        table.set_topic("t", 2, [(0, route(Some(1), 1))]);
        assert_eq!(leaders(&table), [Some(1), None], "made anew");
    }

    #[test]
    fn a_topic_made_anew_is_led_in_terms_of_its_own() {
        let mut table = table(Some(2), 5);
        table.set_topic("t", 2, [(0, route(Some(3), 1))]);
        assert_eq!((table.leader("t", 0), table.topic_id("t")), (Some((3, "b3:1")), Some(2)));
    }

    #[test]
    fn where_no_leader_is_known_even_an_old_statement_is_believed() {
        let mut table = table(Some(2), 5);
        table.forget_leader("t", 0, 2);
        table.set_topic("t", 1, [(0, route(Some(1), 3))]);
        assert_eq!(table.leader("t", 0), Some((1, "b1:1")));
        table.forget_leader("t", 0, 1);
        assert!(table.follow("t", 0, &hint(3, 1)));
    }

    #[test]
    fn a_forgotten_leader_stays_forgotten_until_it_is_named_again() {
        let mut table = table(Some(2), 5);
        table.forget_leader("t", 0, 1);
        assert!(table.leader("t", 0).is_some(), "another node's refusal does not depose the leader");
        table.forget_leader("t", 0, 2);
        assert_eq!(table.leader("t", 0), None);
        table.set_topic("t", 1, [(0, route(Some(2), 5))]);
        assert!(table.leader("t", 0).is_some());
    }

    #[test]
    fn reads_prefer_the_asked_for_replica_then_the_leader_then_the_others() {
        let table = table(Some(2), 5);
        let order = |preferred| -> Vec<NodeId> {
            (0..3)
                .filter_map(|attempt| table.replica_for_read("t", 0, preferred, attempt))
                .map(|r| r.0)
                .collect()
        };
        assert_eq!(order(Some(3)), [3, 2, 1]);
        assert_eq!(order(None), [2, 1, 3]);
        assert_eq!(order(Some(9)), [2, 1, 3], "a broker without a copy is not asked");
        assert_eq!(table.replica_for_read("t", 1, None, 0), None);
    }
}
