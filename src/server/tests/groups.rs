//! Consumer groups over real sockets, by the client library.

use std::time::Duration;

use lockstep_client::{
    Client, NewTopic, PositionCommit, PositionError, ProduceError, Record, Start, TopicChange,
};
use lockstep_protocol::ErrorCode;
use lockstep_protocol::native::{CommitPositionRequest, DeletePositionsRequest, PositionSource};

use super::{Server, cluster, single};

async fn connected(server: &Server) -> Client {
    Client::connect(server.addresses().native.to_string()).await.unwrap()
}

async fn with_topic(server: &Server, topic: &str, partitions: u32, records: u64) -> Client {
    let client = connected(server).await;
    client.create_topic(NewTopic::new(topic).partitions(partitions)).await.unwrap();
    let producer = client.producer().build().await.unwrap();
    for number in 1..=records {
        producer.send_batch(topic, 0, vec![Record::new(1, number.to_string())]).await.unwrap();
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_is_committed_listed_behind_and_deleted() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let client = with_topic(&server, "in", 2, 3).await;
    let billing = client.group("billing");
    assert_eq!(billing.committed("in", 0).await.unwrap(), None);
    let lags = |lags: Vec<lockstep_client::Lag>| lags.iter().map(|lag| lag.records).collect::<Vec<_>>();
    assert_eq!(lags(billing.lag("in").await.unwrap()), [3, 0]);
    billing.commit(PositionCommit { metadata: "host-1".into(), ..billing.at("in", 0, 3) }).await.unwrap();
    client.group("audit").commit(client.group("audit").at("in", 1, 1)).await.unwrap();
    let found = billing.committed("in", 0).await.unwrap().unwrap();
    assert_eq!((found.next_lsn, found.metadata.as_str()), (3, "host-1"));
    assert!(found.leader_time_ms > 0);
    assert_eq!(lags(billing.lag("in").await.unwrap()), [1, 0]);
    let all = client.positions(None).await.unwrap();
    let names: Vec<_> = all.iter().map(|kept| kept.position.group.as_str()).collect();
    assert_eq!(names, ["audit", "billing"]);
    billing.delete(None).await.unwrap();
    assert_eq!(client.positions(Some("billing")).await.unwrap(), []);
    assert_eq!(client.positions(None).await.unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_begins_without_positions_wherever_they_were_kept() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let client = with_topic(&server, "in", 1, 2).await;
    client.create_topic(NewTopic::new("out")).await.unwrap();
    let group = client.group("g").kept_in("out", 0);
    group.commit(group.at("in", 0, 3)).await.unwrap();
    client.delete_topic("in").await.unwrap();
    assert_eq!(client.positions(None).await.unwrap(), []);
    client.create_topic(NewTopic::new("in")).await.unwrap();
    assert_eq!(group.committed("in", 0).await.unwrap(), None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_and_the_position_of_its_input_are_stored_together_and_a_zombie_is_shut_out() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    let client = with_topic(&servers[0], "in", 1, 4).await;
    client.create_topic(NewTopic::new("out")).await.unwrap();
    let group = client.group("copier").kept_in("out", 0);
    let copy = |from: u64, generation: u64| {
        let position = group.at("in", 0, from + 1);
        PositionCommit { generation, expected_next_lsn: Some(from), ..position }
    };
    let zombie = group.take_over("in", 0, 1).await.unwrap();
    let of_zombie = client.producer().build().await.unwrap();
    let output = |lsn: u64| vec![Record::new(1, format!("copy of {lsn}"))];
    of_zombie.send_batch_at("out", 0, output(1), copy(1, zombie.generation)).await.unwrap();

    let heir = group.take_over("in", 0, 1).await.unwrap();
    assert_eq!((heir.next_lsn, heir.generation), (2, zombie.generation + 1));
    let of_heir = client.producer().build().await.unwrap();
    of_heir.send_batch_at("out", 0, output(2), copy(2, heir.generation)).await.unwrap();
    let late = of_zombie.send_batch_at("out", 0, output(2), copy(2, zombie.generation)).await;
    assert!(
        matches!(late, Err(ProduceError::GenerationFenced { generation }) if generation == heir.generation),
        "{late:?}"
    );
    let twice = of_heir.send_batch_at("out", 0, output(2), copy(2, heir.generation)).await;
    assert!(matches!(twice, Err(ProduceError::PositionConflict { next_lsn: 3 })), "{twice:?}");
    let stale = group.commit(copy(2, zombie.generation)).await;
    assert!(matches!(stale, Err(PositionError::Fenced { .. })), "{stale:?}");

    let mut outputs = client.consumer("out").until_end().open().await.unwrap();
    let mut values = Vec::new();
    while let Some(record) = outputs.next().await {
        let record = record.unwrap();
        values.push((record.lsn, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
    }
    assert_eq!(values, [(1, "copy of 1".to_owned()), (2, "copy of 2".to_owned())]);
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_a_group_goes_on_where_the_last_one_committed() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let client = with_topic(&server, "in", 2, 5).await;
    let group = client.group("readers");
    let open = || client.consumer("in").group(group.clone()).from(Start::Earliest).until_end().open();
    let mut first = open().await.unwrap();
    for lsn in 1..=3 {
        assert_eq!(first.next().await.unwrap().unwrap().lsn, lsn);
    }
    first.commit().await.unwrap();
    assert_eq!(first.next().await.unwrap().unwrap().lsn, 4);
    drop(first);
    let mut second = open().await.unwrap();
    assert_eq!(second.next().await.unwrap().unwrap().lsn, 4, "what was not committed comes again");
    drop(second);
    client.trim("in", 0, 5).await.unwrap();
    let mut third = open().await.unwrap();
    assert_eq!(third.next().await.unwrap().unwrap().lsn, 5, "what was trimmed meanwhile is left out");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_position_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let client = with_topic(&server, "t", 1, 0).await;
    let group = client.group("g");
    for (position, code) in [
        (group.at("t", 0, 0), ErrorCode::InvalidPosition),
        (client.group("").at("t", 0, 1), ErrorCode::InvalidPosition),
        (client.group("a\u{7}").at("t", 0, 1), ErrorCode::InvalidPosition),
        (PositionCommit { metadata: "m".repeat(4097), ..group.at("t", 0, 1) }, ErrorCode::InvalidPosition),
        (group.at("t", 1, 1), ErrorCode::UnknownPartition),
        (group.at("nowhere", 0, 1), ErrorCode::UnknownTopic),
    ] {
        let mut raw = super::Client::connect(server.addresses().native).await;
        let request = CommitPositionRequest { topic: "t".into(), partition: 0, position };
        let refused = raw.call(&request).await.unwrap_err();
        assert_eq!(refused.code, code, "{refused:?}");
    }
    let mut raw = super::Client::connect(server.addresses().native).await;
    let source = Some(PositionSource { topic: "nowhere".into(), partition: 0 });
    let delete = DeletePositionsRequest { topic: "t".into(), partition: 0, group: "g".into(), source };
    assert_eq!(raw.call(&delete).await.unwrap_err().code, ErrorCode::UnknownTopic);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_a_topic_reads_partitions_that_are_added_from_their_beginning() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let client = with_topic(&server, "growing", 1, 1).await;
    let consumer = client.consumer("growing").from(Start::Latest);
    let mut consumer = consumer.look_for_partitions_every(Duration::from_millis(10)).open().await.unwrap();
    client.alter_topic(TopicChange::of("growing").partitions(3)).await.unwrap();
    let producer = client.producer().build().await.unwrap();
    let mut read = Vec::new();
    for partition in [2, 1, 0, 2] {
        producer.send_batch("growing", partition, vec![Record::new(1, "new")]).await.unwrap();
        let record = tokio::time::timeout(super::PATIENCE, consumer.next()).await.expect("it is never read");
        let record = record.unwrap().unwrap();
        read.push((record.partition, record.lsn));
    }
    assert_eq!(read, [(2, 1), (1, 1), (0, 2), (2, 2)]);
    server.stop().await;
}
