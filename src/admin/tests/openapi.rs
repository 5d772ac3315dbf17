//! `openapi.json` describes the routes and the JSON as they are.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::super::OPENAPI;
use super::super::control::{AdminError, Control};
use super::super::problem::{LeaderAddress, Problem};
use super::super::routes::ROUTES;
use super::super::views::*;
use super::fake::{FakeBroker, position, replica_state};

fn document() -> Value {
    serde_json::from_str(OPENAPI).expect("openapi.json is JSON")
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let mut described = BTreeSet::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let routes: BTreeSet<_> =
        ROUTES.iter().map(|route| format!("{} {}", route.method, route.template)).collect();
    assert_eq!(described, routes);
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(value: &Value, document: &Value, seen: &mut usize) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                    *seen += 1;
                }
                fields.values().for_each(|value| check(value, document, seen));
            }
            Value::Array(items) => items.iter().for_each(|value| check(value, document, seen)),
            _ => {}
        }
    }
    let (document, mut seen) = (document(), 0);
    check(&document, &document, &mut seen);
    assert!(seen > 30, "only {seen} references were found");
}

/// The fields a schema names must be those the view has.
fn assert_described(schema: &str, view: &impl Serialize) {
    let document = document();
    let described = document["components"]["schemas"][schema]["properties"].as_object();
    let described: BTreeSet<_> =
        described.unwrap_or_else(|| panic!("no schema {schema}")).keys().cloned().collect();
    let view = serde_json::to_value(view).unwrap();
    let fields: BTreeSet<_> = view.as_object().unwrap().keys().cloned().collect();
    assert_eq!(described, fields, "schema {schema}");
}

#[test]
fn schemas_name_the_fields_the_views_have() {
    let broker = FakeBroker::with_topic("orders");
    let topic = broker.known_topic("orders").unwrap();
    assert_described("Cluster", &broker.cluster());
    assert_described("Broker", &broker.brokers()[0]);
    assert_described("TopicSummary", &broker.topics()[0]);
    assert_described("TopicPartition", &topic.partitions[0]);
    assert_described("TopicSettings", &topic.config);
    assert_described("Topic", &topic);
    let new = NewTopic { name: "x".into(), partitions: None, replication: None, config: topic.config };
    assert_described("NewTopic", &new);
    assert_described("TopicChange", &TopicChange::default());
    assert_described("SettingsChange", &SettingsChange::default());
    let state = replica_state(1, "leader");
    assert_described("ReplicaState", &state);
    let progress = ReplicaProgressView {
        broker: 2,
        matched_index: 1,
        next_index: 2,
        lag_entries: 0,
        state: "replicate".into(),
        recently_active: true,
    };
    assert_described("ReplicaProgress", &progress);
    let replica = ReplicaView { broker: 1, lag_entries: Some(0), state: Some(state), unreachable: None };
    assert_described("Replica", &replica);
    let partition = PartitionView {
        topic: "orders".into(),
        partition: 0,
        shard: 1,
        leader: Some(1),
        term: 1,
        replicas: vec![replica],
    };
    assert_described("Partition", &partition);
    assert_described("Transfer", &Transfer { to: 1 });
    let moved = MoveView { topic: "orders".into(), partition: 0, from: vec![1], to: vec![2] };
    assert_described("Move", &moved);
    assert_described("Moves", &broker.moves());
    assert_described("MoveGoal", &MoveGoal { to: vec![1] });
    assert_described("Cancelled", &Cancelled { cancelled: 1 });
    assert_described("BrokerShare", &BrokerShareView::default());
    assert_described("Rebalance", &RebalanceView::default());
    assert_described("Position", &position());
    assert_described("NewPosition", &NewPosition::default());
    assert_described("Source", &Source { topic: "orders".into(), partition: 0 });
    assert_described("LogStart", &LogStart { log_start: 1 });
    assert_described("LeaderAddress", &LeaderAddress { broker: 1, address: None });
    let leader = AdminError::NotLeader { leader: Some(2), address: None };
    assert_described("Problem", &Problem::from(leader));
}
