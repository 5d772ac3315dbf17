//! What a client may ask of one broker.

use std::time::Duration;

use lockstep_protocol::native::{
    AlterTopicRequest, Credit, DescribeTopicRequest, FenceRequest, FetchItem, FetchRequest,
    InitProducerRequest, ListTopicsRequest, LsnForTimeRequest, MetadataRequest, ProduceItem,
    SubscribeRequest, TailRequest, TrimRequest, UnsubscribeRequest,
};
use lockstep_protocol::{ErrorCode, ProducerSequence};

use super::client::{produce_item, values};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn records_are_numbered_from_one_and_read_back_as_they_were_sent() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    let first = client.produce("t", batch(&["a", "b"])).await.unwrap();
    assert_eq!((first.first_lsn, first.last_lsn, first.duplicate), (1, 2, false));
    let second = client.produce("t", batch(&["c"])).await.unwrap();
    assert_eq!((second.first_lsn, second.last_lsn), (3, 3));
    let expected: Vec<(u64, String)> =
        [(1, "a"), (2, "b"), (3, "c")].map(|(lsn, text)| (lsn, text.into())).into();
    assert_eq!(client.read_all("t", 3).await, expected);
    server.stop().await;

    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    assert_eq!(client.read_all("t", 3).await, expected, "after a restart");
    assert_eq!(client.produce("t", batch(&["d"])).await.unwrap().first_lsn, 4);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_produces_of_a_connection_keep_their_order() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    let producer = client.call(&InitProducerRequest {}).await.unwrap();
    let mut sent = Vec::new();
    for sequence in 0..200 {
        let producer =
            ProducerSequence { id: producer.producer_id, epoch: producer.epoch, base_sequence: sequence };
        let bytes = numbered_batch(&["x"], producer);
        let batches = vec![produce_item("t", &bytes)];
        let request = lockstep_protocol::native::ProduceRequest { timeout_ms: 10_000, batches };
        sent.push(client.send(&request, vec![bytes]).await);
    }
    for (lsn, correlation) in (1..).zip(sent) {
        let (response, _) = client.response::<lockstep_protocol::native::ProduceRequest>(correlation).await;
        assert_eq!(response.unwrap().results[0].as_ref().unwrap().first_lsn, lsn);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_batch_gets_its_first_lsns_back() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    let producer = client.call(&InitProducerRequest {}).await.unwrap();
    let producer = ProducerSequence { id: producer.producer_id, epoch: producer.epoch, base_sequence: 0 };
    let bytes = numbered_batch(&["a", "b"], producer);
    client.produce("t", bytes.clone()).await.unwrap();
    let again = client.produce("t", bytes).await.unwrap();
    assert_eq!((again.first_lsn, again.last_lsn, again.duplicate), (1, 2, true));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_and_fences_are_judged_and_say_what_holds() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    let bytes = batch(&["a"]);
    let item = produce_item("t", &bytes);
    let at_one = lockstep_protocol::native::ProduceItem { expected_next_lsn: Some(1), ..item.clone() };
    client.produce_item(at_one.clone(), bytes.clone()).await.unwrap();
    let refused = client.produce_item(at_one, bytes.clone()).await.unwrap_err();
    assert_eq!((refused.code, refused.detail), (ErrorCode::ConditionFailed, 2));

    client.call(&FenceRequest { topic: "t".into(), partition: 0, epoch: 5 }).await.unwrap();
    let stale = lockstep_protocol::native::ProduceItem { fence: Some(4), ..item.clone() };
    let refused = client.produce_item(stale, bytes.clone()).await.unwrap_err();
    assert_eq!((refused.code, refused.detail), (ErrorCode::Fenced, 5));
    let current = lockstep_protocol::native::ProduceItem { fence: Some(5), ..item };
    client.produce_item(current, bytes).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_at_the_tail_waits_for_the_next_batch() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut reader = Client::connect(server.addresses().native).await;
    let mut writer = Client::connect(server.addresses().native).await;
    writer.create_topic("t", 1).await.unwrap();
    let item = FetchItem { topic: "t".into(), partition: 0, from_lsn: 1, max_bytes: 1 << 20 };
    let request = FetchRequest { max_wait_ms: 20_000, min_bytes: 1, max_bytes: 1 << 20, items: vec![item] };
    let waiting = reader.send(&request, Vec::new()).await;
    // The connection serves other requests meanwhile.
    reader.call(&ListTopicsRequest {}).await.unwrap();
    writer.produce("t", batch(&["late"])).await.unwrap();
    let (response, payload) = reader.response::<FetchRequest>(waiting).await;
    assert_eq!(response.unwrap().items[0].as_ref().unwrap().high_watermark, 1);
    assert_eq!(values(payload), [(1, "late".to_owned())]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_no_more_than_it_may_return_anyway() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    client.produce("t", batch(&["a"])).await.unwrap();
    client.produce("t", batch(&["b"])).await.unwrap();
    let item = FetchItem { topic: "t".into(), partition: 0, from_lsn: 1, max_bytes: 1 };
    let (max_wait_ms, min_bytes) = (600_000, 1 << 20);
    let request = FetchRequest { max_wait_ms, min_bytes, max_bytes: 1 << 20, items: vec![item] };
    let answered = tokio::time::timeout(PATIENCE, client.call_with(&request, Vec::new())).await;
    let (_, payload) = answered.expect("it is not waited for what would not come");
    assert_eq!(values(payload), [(1, "a".to_owned())]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_inside_a_batch_gets_the_whole_batch_however_small_the_limit() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    client.produce("t", batch(&["a", "b", "c"])).await.unwrap();
    client.produce("t", batch(&["d"])).await.unwrap();
    let (fetched, payload) = client.fetch("t", 2, 1).await.unwrap();
    assert_eq!(fetched.first_lsn, 1);
    assert_eq!(values(payload).len(), 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lsns_outside_the_log_are_refused_and_say_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    client.produce("t", batch(&["a", "b", "c"])).await.unwrap();
    assert_eq!(client.fetch("t", 0, 100).await.unwrap_err().code, ErrorCode::InvalidLsn);
    let beyond = client.fetch("t", 5, 100).await.unwrap_err();
    assert_eq!((beyond.code, beyond.detail), (ErrorCode::LsnBeyondTail, 4));
    let trim = TrimRequest { topic: "t".into(), partition: 0, log_start: 3 };
    assert_eq!(client.call(&trim).await.unwrap().log_start, 3);
    let below = client.fetch("t", 2, 100).await.unwrap_err();
    assert_eq!((below.code, below.detail), (ErrorCode::LsnBelowLogStart, 3));
    let beyond = TrimRequest { log_start: 9, ..trim };
    assert_eq!(client.call(&beyond).await.unwrap_err().code, ErrorCode::LsnBeyondTail);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_and_times_are_found() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    client.produce("t", batch(&["at 1000", "at 1001", "at 1002"])).await.unwrap();
    let tail =
        client.call(&TailRequest { topic: "t".into(), partition: 0, linearizable: true }).await.unwrap();
    assert_eq!((tail.log_start, tail.high_watermark, tail.next_lsn), (1, 3, 4));
    let mut lsn_at = async |timestamp_ms| {
        let request = LsnForTimeRequest { topic: "t".into(), partition: 0, timestamp_ms };
        client.call(&request).await.unwrap().lsn
    };
    assert_eq!(lsn_at(0).await, Some(1));
    assert_eq!(lsn_at(1001).await, Some(2));
    assert_eq!(lsn_at(1003).await, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_listed_described_and_deleted_for_good() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("b", 2).await.unwrap();
    let first = client.create_topic("a", 1).await.unwrap();
    assert_eq!(client.create_topic("a", 1).await.unwrap_err().code, ErrorCode::TopicExists);
    let list = client.call(&ListTopicsRequest {}).await.unwrap();
    let names: Vec<(&str, u32)> =
        list.topics.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
    assert_eq!(names, [("a", 1), ("b", 2)]);
    client.produce("a", batch(&["x"])).await.unwrap();
    let described = client.call(&DescribeTopicRequest { name: "a".into() }).await.unwrap();
    assert_eq!((described.partitions[0].log_start, described.partitions[0].high_watermark), (1, 1));
    assert!(described.partitions[0].bytes > 0);

    let delete = lockstep_protocol::native::DeleteTopicRequest { name: "a".into() };
    client.call(&delete).await.unwrap();
    assert_eq!(client.call(&delete).await.unwrap_err().code, ErrorCode::UnknownTopic);
    assert_eq!(client.produce("a", batch(&["y"])).await.unwrap_err().code, ErrorCode::UnknownTopic);
    let second = client.create_topic("a", 1).await.unwrap();
    assert!(second.id > first.id && second.partitions[0].shard > first.partitions[0].shard);
    assert_eq!(client.produce("a", batch(&["z"])).await.unwrap().first_lsn, 1, "a new topic is empty");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_created_only_where_that_is_allowed() {
    let root = tempfile::tempdir().unwrap();
    let request = MetadataRequest { topics: Some(vec!["new".into()]), create_missing: true };
    let server = single(&root.path().join("strict")).await;
    let mut client = Client::connect(server.addresses().native).await;
    let answer = client.call(&request).await.unwrap();
    assert_eq!(answer.topics[0].as_ref().unwrap_err().code, ErrorCode::UnknownTopic);
    server.stop().await;

    let mut config = quick_config(1, &root.path().join("lenient"));
    config.topics.create_missing = true;
    let server = Server::start(config).await.unwrap();
    ready(&server).await;
    let mut client = Client::connect(server.addresses().native).await;
    let answer = client.call(&request).await.unwrap();
    assert_eq!(answer.controller, Some(1));
    assert_eq!(answer.nodes[0].address, server.addresses().native.to_string());
    assert_eq!(answer.topics[0].as_ref().unwrap().partitions[0].leader, Some(1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_pushes_what_is_there_and_what_comes_and_stops_when_told() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    client.produce("t", batch(&["a"])).await.unwrap();
    let subscribe = SubscribeRequest {
        topic: "t".into(),
        partition: 0,
        from_lsn: 1,
        credit_bytes: 1 << 20,
        max_push_bytes: 1 << 16,
    };
    let subscription = client.send(&subscribe, Vec::new()).await;
    client.response::<SubscribeRequest>(subscription).await.0.unwrap();
    assert_eq!(values(client.push(subscription).await.1), [(1, "a".to_owned())]);
    client.produce("t", batch(&["b", "c"])).await.unwrap();
    assert_eq!(values(client.push(subscription).await.1), [(2, "b".to_owned()), (3, "c".to_owned())]);
    client.call(&UnsubscribeRequest { subscription }).await.unwrap();
    client.produce("t", batch(&["d"])).await.unwrap();
    assert!(client.nothing_set_aside(), "no push after the end");
    let again = client.call(&UnsubscribeRequest { subscription }).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::UnknownSubscription);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credit_nothing_is_pushed_and_with_it_nothing_was_lost() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    for value in ["a", "b", "c"] {
        client.produce("t", batch(&[value])).await.unwrap();
    }
    let subscribe =
        SubscribeRequest { topic: "t".into(), partition: 0, from_lsn: 1, credit_bytes: 1, max_push_bytes: 1 };
    let subscription = client.send(&subscribe, Vec::new()).await;
    client.response::<SubscribeRequest>(subscription).await.0.unwrap();
    let (_, payload) = client.push(subscription).await;
    let debt = payload.len() as u64;
    assert_eq!(values(payload), [(1, "a".to_owned())]);
    // The first batch cost more than there was: less than the debt changes nothing.
    client.send(&Credit { subscription, bytes: debt - 1 }, Vec::new()).await;
    client.call(&ListTopicsRequest {}).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_millis(100), client.push(subscription)).await;
    assert!(quiet.is_err(), "pushed without credit");
    client.send(&Credit { subscription, bytes: 1 << 20 }, Vec::new()).await;
    assert_eq!(values(client.push(subscription).await.1), [(2, "b".to_owned())]);
    assert_eq!(values(client.push(subscription).await.1), [(3, "c".to_owned())]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_before_a_trim_inside_a_batch_is_found_at_the_log_start() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    client.produce("t", batch(&["a", "b", "c", "d"])).await.unwrap();
    client.call(&TrimRequest { topic: "t".into(), partition: 0, log_start: 3 }).await.unwrap();
    for timestamp_ms in [0, 1000, 1002] {
        let request = LsnForTimeRequest { topic: "t".into(), partition: 0, timestamp_ms };
        let found = client.call(&request).await.unwrap();
        assert_eq!((found.lsn, found.timestamp_ms), (Some(3), 1002), "asked for {timestamp_ms}");
    }
    client.call(&TrimRequest { topic: "t".into(), partition: 0, log_start: 5 }).await.unwrap();
    let request = LsnForTimeRequest { topic: "t".into(), partition: 0, timestamp_ms: 0 };
    assert_eq!(client.call(&request).await.unwrap().lsn, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn produces_sent_before_their_topic_is_here_are_judged_in_the_order_they_were_sent() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    let mut other = Client::connect(server.addresses().native).await;
    let bytes = batch(&["x"]);
    let batches = vec![produce_item("late", &bytes)];
    let request = lockstep_protocol::native::ProduceRequest { timeout_ms: 10_000, batches };
    let mut sent = Vec::new();
    for _ in 0..50 {
        sent.push(client.send(&request, vec![bytes.clone()]).await);
    }
    other.create_topic("late", 1).await.unwrap();
    sent.push(client.send(&request, vec![bytes]).await);
    let mut lsns = Vec::new();
    for correlation in sent {
        let (response, _) = client.response::<lockstep_protocol::native::ProduceRequest>(correlation).await;
        // The first ones may come before the topic has a leader.
        lsns.extend(response.unwrap().results.remove(0).map(|produced| produced.first_lsn));
    }
    assert!(!lsns.is_empty() && lsns.is_sorted(), "{lsns:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_altered_while_it_is_in_use_whole_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 2).await.unwrap();
    let ask = |partitions, max_batch_bytes| AlterTopicRequest {
        name: "t".into(),
        partitions: Some(partitions),
        max_batch_bytes: Some(Some(max_batch_bytes)),
        timeout_ms: 10_000,
        ..AlterTopicRequest::default()
    };
    // Fewer partitions are refused, and the setting beside them does not change either.
    let refused = client.call(&ask(1, 2048)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidPartitionCount);
    let described = client.call(&DescribeTopicRequest { name: "t".into() }).await.unwrap();
    assert_eq!(described.topic.config.max_batch_bytes, None);
    let refused = client.call(&ask(3, 1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidConfig);

    let altered = client.call(&ask(4, 2048)).await.unwrap().topic;
    assert_eq!((altered.partitions.len(), altered.config.max_batch_bytes), (4, Some(2048)));
    assert_eq!(client.call(&ask(4, 2048)).await.unwrap().topic, altered, "to ask twice does no harm");
    let small = batch(&["a"]);
    let in_the_last = ProduceItem { partition: 3, ..produce_item("t", &small) };
    assert_eq!(client.produce_item(in_the_last, small).await.unwrap().first_lsn, 1);
    let refused = client.produce("t", batch(&[&"x".repeat(3000)])).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::BatchTooLarge);
    server.stop().await;

    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    let described = client.call(&DescribeTopicRequest { name: "t".into() }).await.unwrap();
    assert_eq!((described.topic.partitions.len(), described.topic.config.max_batch_bytes), (4, Some(2048)));
    server.stop().await;
}
