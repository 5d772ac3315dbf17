//! Each broker in turn is asked to stop and started again, while clients write and read: they notice nothing.

mod processes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockstep_client::{Client, ProducerRecord, Start};
use processes::LocalCluster;

const TOPIC: &str = "rolling";
const PARTITIONS: u32 = 12;
const WRITERS: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn no_client_sees_an_error_while_each_broker_in_turn_is_restarted() {
    let cluster = LocalCluster::start();
    cluster.run(&["topic", "create", TOPIC, "--partitions", &PARTITIONS.to_string()]);
    let client = Client::connect(cluster.brokers().as_str()).await.expect("a broker answers");
    let stopping = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..WRITERS).map(|_| tokio::spawn(write(client.clone(), Arc::clone(&stopping)))).collect();

    for id in 1..=3 {
        let node = cluster.node(id);
        cluster.terminate(&node);
        cluster.wait_for_restart(&node);
    }

    stopping.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    for writer in writers {
        acknowledged += writer.await.expect("no writer saw an error");
    }
    let mut consumer =
        client.consumer(TOPIC).from(Start::Earliest).until_end().open().await.expect("it can be read");
    let mut stored = 0;
    while let Some(record) = consumer.next().await {
        record.expect("no reader saw an error");
        stored += 1;
    }
    println!("{acknowledged} records were acknowledged, {stored} are stored");
    assert!(acknowledged > 100, "only {acknowledged} records were written meanwhile");
    assert_eq!(stored, acknowledged);
}

/// Writes one record after another, to all partitions in turn, and asks for the confirmed end of each; returns how many.
async fn write(client: Client, stopping: Arc<AtomicBool>) -> u64 {
    let producer = client.producer().build().await.expect("a producer id");
    let mut count = 0;
    while !stopping.load(Ordering::Relaxed) {
        let partition = u32::try_from(count).unwrap_or(0) % PARTITIONS;
        let record = ProducerRecord::new(TOPIC, format!("record {count}")).partition(partition);
        let ack = producer.send(record).await.expect("it is acknowledged");
        let tail = client.tail(TOPIC, partition, true).await.expect("the end is confirmed");
        assert!(tail.high_watermark >= ack.lsn, "{} was acknowledged, the end is {tail:?}", ack.lsn);
        count += 1;
    }
    count
}
