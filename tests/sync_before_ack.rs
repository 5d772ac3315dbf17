//! No acknowledgement without the syncs that cover it, and one sync for all that waited: seen in the brokers' own
//! counters, from outside.

mod processes;

use std::{sync::Arc, time::Duration};

use lockstep_client::{Client, Producer, Record};
use processes::{LocalCluster, Node, http_get};

const TOPIC: &str = "synced";
/// Two of three.
const MAJORITY: f64 = 2.0;

/// One series of a broker.
fn metric(node: &Node, name: &str) -> f64 {
    let (_, text) = http_get(&node.http, "/metrics").expect("the broker answers");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("there is no {name}")).parse().expect("a number")
}

/// What the brokers counted so far, summed.
#[derive(Clone, Copy, Debug)]
struct Counts {
    /// Syncs that returned, of whatever.
    syncs: f64,
    /// Synced groups with entries in them, without seals and votes.
    groups: f64,
    /// Entries in those.
    entries: f64,
}

impl Counts {
    fn of(nodes: &[Node]) -> Self {
        let sum = |name: &str| nodes.iter().map(|node| metric(node, name)).sum();
        Self {
            syncs: sum("lockstep_log_syncs_total"),
            groups: sum("lockstep_log_group_entries_count"),
            entries: sum("lockstep_log_group_entries_sum"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            syncs: self.syncs - before.syncs,
            groups: self.groups - before.groups,
            entries: self.entries - before.entries,
        }
    }
}

async fn producer(cluster: &LocalCluster) -> Producer {
    let client = Client::connect(cluster.brokers().as_str()).await.expect("the brokers answer");
    client.producer().linger(Duration::ZERO).build().await.expect("a producer")
}

async fn append(producer: &Producer) {
    let records = vec![Record::new(0, vec![b'r'; 2048])];
    producer.send_batch(TOPIC, 0, records).await.expect("an acknowledgement");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_acknowledgement_has_a_synced_majority_of_its_own() {
    const BATCHES: usize = 100;
    let cluster = LocalCluster::start();
    cluster.run(&["topic", "create", TOPIC]);
    let producer = producer(&cluster).await;
    append(&producer).await;
    let nodes = cluster.nodes();
    let started = Counts::of(&nodes);
    let mut before = started;
    for number in 1..=BATCHES {
        append(&producer).await;
        // The batch before this one had nobody to share a sync with, nor has this one.
        let now = Counts::of(&nodes);
        let total = now.since(started);
        assert!(
            total.groups >= MAJORITY * number as f64,
            "{number} batches were acknowledged one by one, and only {} groups were synced",
            total.groups
        );
        assert!(now.syncs > before.syncs, "batch {number} was acknowledged without any sync");
        before = now;
    }
    let total = Counts::of(&nodes).since(started);
    println!("{BATCHES} batches, one at a time: {total:?}");
    assert!(total.syncs >= MAJORITY * BATCHES as f64, "{total:?}");
    assert!(total.syncs >= total.groups, "a group counts as written only once it is synced: {total:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_wait_together_share_a_sync() {
    const PRODUCERS: usize = 32;
    const BATCHES_EACH: usize = 25;
    let cluster = LocalCluster::start();
    cluster.run(&["topic", "create", TOPIC]);
    let mut producers = Vec::new();
    for _ in 0..PRODUCERS {
        let producer = producer(&cluster).await;
        append(&producer).await;
        producers.push(Arc::new(producer));
    }
    let leader = [cluster.leader(TOPIC)];
    let started = Counts::of(&leader);
    let mut tasks = tokio::task::JoinSet::new();
    for producer in &producers {
        let producer = Arc::clone(producer);
        tasks.spawn(async move {
            for _ in 0..BATCHES_EACH {
                append(&producer).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("each producer gets its acknowledgements");
    }
    let total = Counts::of(&leader).since(started);
    println!("{PRODUCERS} producers of {BATCHES_EACH} batches each, on the leader: {total:?}");
    assert!(total.entries >= (PRODUCERS * BATCHES_EACH) as f64, "the leader led throughout: {total:?}");
    assert!(total.entries / total.syncs > 1.0, "appends per sync, seals and all: {total:?}");
}
