//! What a client does when brokers move, die, stay silent or lie: against a played cluster on loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;

use std::time::Duration;

use fake::{FakeCluster, ProduceFault, SubscribeFault, TOPIC};
use lockstep_client::{
    Client, ClientOptions, ConnectError, ConsumeError, Consumer, ErrorCode, NewTopic, PartitionError,
    ProduceError, Producer, ProducerRecord, Record, RequestError, Start, TopicError,
};

fn options() -> ClientOptions {
    ClientOptions::new().retry_delays(Duration::from_millis(1), Duration::from_millis(10))
}

async fn connect(cluster: &FakeCluster) -> Client {
    Client::connect_with(cluster.addresses(), options()).await.unwrap()
}

async fn producer(cluster: &FakeCluster) -> Producer {
    connect(cluster).await.producer().build().await.unwrap()
}

fn record(text: &str) -> ProducerRecord {
    ProducerRecord::new(TOPIC, text.to_owned())
}

/// Writes batches of one record each, whose values are their LSNs.
async fn fill(cluster: &FakeCluster, records: u64) {
    let producer = producer(cluster).await;
    for lsn in 1..=records {
        let ack = producer.send_batch(TOPIC, 0, vec![Record::new(0, lsn.to_string())]).await.unwrap();
        assert_eq!(ack.first_lsn, lsn);
    }
}

async fn read_all(mut consumer: Consumer) -> Result<Vec<u64>, ConsumeError> {
    let mut lsns = Vec::new();
    while let Some(record) = consumer.next().await {
        let record = record?;
        assert_eq!(record.value.unwrap(), record.lsn.to_string());
        lsns.push(record.lsn);
    }
    Ok(lsns)
}

fn check_that_repeats_are_identical(cluster: &FakeCluster) {
    let state = cluster.state();
    assert!(state.produce_faults.is_empty(), "every fault was met");
    for (sequence, attempts) in &state.arrived {
        assert!(
            attempts.iter().all(|attempt| attempt == &attempts[0]),
            "sequence {sequence} changed its bytes"
        );
    }
}

#[tokio::test]
async fn a_record_follows_the_leader_when_it_moves() {
    let cluster = FakeCluster::start().await;
    cluster.state().produce_faults.extend([ProduceFault::MoveLeader(2), ProduceFault::MoveLeader(3)]);
    let producer = producer(&cluster).await;
    assert_eq!(producer.send(record("a")).await.unwrap().lsn, 1);
    assert_eq!(cluster.state().leader, 3);
    assert_eq!(producer.send(record("b")).await.unwrap().lsn, 2);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again_and_the_batch_stored_once() {
    let cluster = FakeCluster::start().await;
    cluster.state().produce_faults.push_back(ProduceFault::LoseAnswer);
    let producer = producer(&cluster).await;
    let ack = producer.send_batch(TOPIC, 0, vec![Record::new(0, "a"), Record::new(0, "b")]).await.unwrap();
    assert_eq!((ack.first_lsn, ack.last_lsn, ack.duplicate), (1, 2, true));
    assert_eq!(cluster.state().log.len(), 1);
}

#[tokio::test]
async fn order_bytes_and_sequences_survive_faults_with_many_batches_in_flight() {
    let cluster = FakeCluster::start().await;
    let faults = [
        ProduceFault::None,
        ProduceFault::LoseRequest,
        ProduceFault::None,
        ProduceFault::None,
        ProduceFault::LoseAnswer,
        ProduceFault::MoveLeader(2),
        ProduceFault::None,
        ProduceFault::LoseAnswer,
        ProduceFault::LoseRequest,
        ProduceFault::MoveLeader(3),
    ];
    cluster.state().produce_faults.extend(faults);
    let producer = producer(&cluster).await;
    let mut deliveries = Vec::new();
    for number in 1..=40 {
        let batch = [Record::new(0, number.to_string())];
        deliveries.push(producer.enqueue_batch(TOPIC, 0, &batch).await.unwrap());
    }
    for (number, delivery) in (1..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().first_lsn, number);
    }
    check_that_repeats_are_identical(&cluster);
    let consumer = connect(&cluster).await.consumer(TOPIC).until_end().open().await.unwrap();
    assert_eq!(read_all(consumer).await.unwrap(), (1..=40).collect::<Vec<u64>>());
}

#[tokio::test]
async fn without_idempotence_a_lost_answer_is_an_unknown_outcome_and_not_a_second_copy() {
    let cluster = FakeCluster::start().await;
    cluster.state().produce_faults.push_back(ProduceFault::LoseAnswer);
    let producer = connect(&cluster).await.producer().idempotent(false).build().await.unwrap();
    let refused = producer.send(record("a")).await.unwrap_err();
    assert!(matches!(refused, ProduceError::Request(RequestError::OutcomeUnknown { .. })), "{refused}");
    assert_eq!(cluster.state().log.len(), 1);
    let behind = producer.send(record("b")).await.unwrap_err();
    assert!(matches!(behind, ProduceError::Poisoned { .. }), "{behind}");
}

#[tokio::test]
async fn a_failed_condition_says_the_next_lsn_and_leaves_the_producer_usable() {
    let cluster = FakeCluster::start().await;
    let producer = producer(&cluster).await;
    let batch = || vec![Record::new(0, "x")];
    let refused = producer.send_batch_if(TOPIC, 0, batch(), 9).await.unwrap_err();
    assert!(matches!(refused, ProduceError::ConditionFailed { next_lsn: 1 }), "{refused}");
    assert_eq!(producer.send_batch_if(TOPIC, 0, batch(), 1).await.unwrap().first_lsn, 1);
    assert_eq!(producer.send_batch(TOPIC, 0, batch()).await.unwrap().first_lsn, 2);
}

#[tokio::test]
async fn a_record_that_is_too_long_is_refused_at_once_and_harms_nothing_else() {
    let cluster = FakeCluster::start().await;
    let producer = producer(&cluster).await;
    let refused = producer.send(record(&"x".repeat(2_000))).await.unwrap_err();
    assert!(matches!(refused, ProduceError::TooLarge { limit: 1_024, .. }), "{refused}");
    assert_eq!(producer.send(record("a")).await.unwrap().lsn, 1);
}

#[tokio::test]
async fn a_topics_own_limit_cuts_its_batches_and_refuses_what_can_never_fit() {
    let cluster = FakeCluster::start().await;
    cluster.state().topic_batch_bytes_max = Some(200);
    let client = connect(&cluster).await;
    let producer = client.producer().linger(Duration::from_millis(50)).build().await.unwrap();
    let mut deliveries = Vec::new();
    for _ in 0..20 {
        deliveries.push(producer.enqueue(record(&"x".repeat(50))).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert!(cluster.state().log.iter().all(|batch| batch.len() <= 200), "no batch is longer than the limit");
    let refused = producer.send(record(&"x".repeat(300))).await.unwrap_err();
    assert!(matches!(refused, ProduceError::TooLarge { limit: 200, .. }), "{refused}");
    let batch = vec![Record::new(0, "x".repeat(150)), Record::new(0, "x".repeat(150))];
    let refused = producer.send_batch(TOPIC, 0, batch).await.unwrap_err();
    assert!(matches!(refused, ProduceError::TooLarge { what: "batch", limit: 200, .. }), "{refused}");
}

#[tokio::test]
async fn frames_that_arrive_in_pieces_are_put_together() {
    let cluster = FakeCluster::start_with_step(3).await;
    fill(&cluster, 20).await;
    let consumer = connect(&cluster).await.consumer(TOPIC).until_end().open().await.unwrap();
    assert_eq!(read_all(consumer).await.unwrap(), (1..=20).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_consumer_goes_on_at_another_broker_when_its_own_dies() {
    let cluster = FakeCluster::start().await;
    fill(&cluster, 30).await;
    cluster.state().subscribe_faults.push_back(SubscribeFault::DieAfter(7));
    let consumer = connect(&cluster)
        .await
        .consumer(TOPIC)
        .from_node(2)
        .credit_bytes(1)
        .until_end()
        .open()
        .await
        .unwrap();
    assert_eq!(read_all(consumer).await.unwrap(), (1..=30).collect::<Vec<u64>>());
    let asked = cluster.state().subscribed_at.clone();
    assert_eq!(asked[0], 2, "the preferred broker first");
    assert!(asked.len() > 1 && asked[1] != 2, "then another one: {asked:?}");
}

#[tokio::test]
async fn a_consumer_does_not_go_on_in_another_topic_of_the_same_name() {
    let cluster = FakeCluster::start().await;
    fill(&cluster, 30).await;
    cluster.state().subscribe_faults.push_back(SubscribeFault::DieAfter(7));
    let consumer = connect(&cluster).await.consumer(TOPIC).credit_bytes(1).until_end().open().await.unwrap();
    cluster.state().topic_id = 2;
    let refused = read_all(consumer).await.unwrap_err();
    assert!(matches!(refused, ConsumeError::MadeAnew { .. }), "{refused}");
}

#[tokio::test]
async fn a_broker_that_leaves_out_a_batch_is_found_out() {
    let cluster = FakeCluster::start().await;
    fill(&cluster, 5).await;
    cluster.state().subscribe_faults.push_back(SubscribeFault::LeaveOut(2));
    let consumer = connect(&cluster).await.consumer(TOPIC).until_end().open().await.unwrap();
    let refused = read_all(consumer).await.unwrap_err();
    assert!(matches!(refused, ConsumeError::Gap { expected: 3, found: 4, .. }), "{refused}");
}

#[tokio::test]
async fn a_consumer_starts_where_it_is_told() {
    let cluster = FakeCluster::start().await;
    fill(&cluster, 5).await;
    let client = connect(&cluster).await;
    let from_three = client.consumer(TOPIC).from(Start::Lsn(3)).until_end().open().await.unwrap();
    assert_eq!(read_all(from_three).await.unwrap(), [3, 4, 5]);
    let latest = client.consumer(TOPIC).from(Start::Latest).until_end().open().await.unwrap();
    assert_eq!(read_all(latest).await.unwrap(), Vec::<u64>::new());
    let next = client.consumer(TOPIC).from(Start::Lsn(6)).until_end().open().await.unwrap();
    assert_eq!(read_all(next).await.unwrap(), Vec::<u64>::new(), "nothing is there yet, but it is the end");
    let beyond = client.consumer(TOPIC).from(Start::Lsn(500)).until_end().open().await.err();
    let told = matches!(beyond, Some(ConsumeError::BeyondTail { from_lsn: 500, next_lsn: 6, .. }));
    assert!(told, "a start behind the end is an error and not nothing: {beyond:?}");
    let zero = client.consumer(TOPIC).from(Start::Lsn(0)).open().await;
    assert!(matches!(zero.err(), Some(ConsumeError::Zero)));
}

#[tokio::test]
async fn a_start_time_whose_records_were_trimmed_meanwhile_is_no_nonsense_of_the_broker() {
    let cluster = FakeCluster::start().await;
    let refused = connect(&cluster).await.consumer(TOPIC).from(Start::Time(5)).open().await.err().unwrap();
    let ConsumeError::Request(error) = &refused else { panic!("{refused}") };
    assert_eq!(error.code(), Some(ErrorCode::LsnBelowLogStart), "{refused}");
}

#[tokio::test]
async fn a_broker_of_another_cluster_is_refused() {
    let cluster = FakeCluster::start().await;
    let refused = Client::connect_with(cluster.addresses(), options().cluster([1; 16])).await;
    assert!(matches!(refused.err(), Some(ConnectError::Refused { .. })));
    let welcome = Client::connect_with(cluster.addresses(), options().cluster(fake::CLUSTER)).await;
    assert!(welcome.is_ok());
}

#[tokio::test]
async fn a_silent_broker_is_waited_for_no_longer_than_the_budget() {
    let cluster = FakeCluster::start().await;
    cluster.state().tail_is_silent = true;
    let options =
        options().retry_budget(Duration::from_millis(200)).request_timeout(Duration::from_secs(3_600));
    let client = Client::connect_with(cluster.addresses(), options).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(60), client.tail(TOPIC, 0, false)).await;
    let refused = waited.expect("the budget ends the attempt, not the hour of the request").unwrap_err();
    assert!(matches!(refused, PartitionError::Request(RequestError::BudgetSpent { .. })), "{refused}");
}

#[tokio::test]
async fn nobody_at_any_address_is_said_with_the_addresses() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    drop(holder);
    let refused = Client::connect(address.as_str()).await.err().unwrap();
    assert!(refused.is_retryable() && refused.to_string().contains(&address), "{refused}");
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_has_succeeded_and_so_has_a_deletion() {
    let cluster = FakeCluster::start().await;
    let client = connect(&cluster).await;
    cluster.state().topic_answers_lost = 1;
    let topic = || NewTopic::new("new").partitions(2).retention_ms(5);
    assert_eq!(client.create_topic(topic()).await.unwrap().partitions.len(), 2);
    let again = client.create_topic(topic()).await.unwrap_err();
    assert!(matches!(again, TopicError::Exists { .. }), "without a lost answer it was there before: {again}");

    cluster.state().topic_answers_lost = 1;
    client.delete_topic("new").await.unwrap();
    let again = client.delete_topic("new").await.unwrap_err();
    assert!(matches!(again, TopicError::Unknown { .. }), "{again}");
}

#[tokio::test]
async fn a_topic_with_other_settings_was_not_created_by_the_attempt_whose_answer_was_lost() {
    let cluster = FakeCluster::start().await;
    let client = connect(&cluster).await;
    client.create_topic(NewTopic::new("new").partitions(2)).await.unwrap();
    for other in [NewTopic::new("new").partitions(3), NewTopic::new("new").partitions(2).retention_ms(5)] {
        cluster.state().topic_answers_lost = 1;
        let refused = client.create_topic(other).await.unwrap_err();
        assert!(matches!(refused, TopicError::Exists { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_producer_that_goes_on_writing_uses_partitions_that_were_added() {
    let cluster = FakeCluster::start().await;
    let client = connect(&cluster).await;
    let producer = client.producer().build().await.unwrap();
    let to_second = || producer.send_batch(TOPIC, 1, vec![Record::new(0, "a")]);
    let refused = to_second().await.unwrap_err();
    assert!(matches!(refused, ProduceError::Unknown { .. }), "{refused}");
    cluster.state().further_partitions = 1;
    client.metadata(Some(vec![TOPIC.to_owned()])).await.unwrap();
    assert_eq!(to_second().await.unwrap().first_lsn, 1);
}
