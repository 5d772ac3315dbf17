//! Claims about the admin interface, made over real sockets against a broker that answers from a script.

mod fake;
mod http;
mod openapi;

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use fake::FakeBroker;
pub(super) use fake::replica_state;
use http::{Answer, send, send_raw};

use super::control::Readiness;

/// A served fake broker; stops when dropped.
struct Served {
    address: String,
    _stop: oneshot::Sender<()>,
}

async fn served(broker: FakeBroker) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(super::serve(listener, Arc::new(broker), async move {
        let _ = stopped.await;
    }));
    Served { address, _stop: stop }
}

impl Served {
    async fn get(&self, path: &str) -> Answer {
        send(&self.address, "GET", path, None).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        send(&self.address, "PUT", path, Some(("application/json", body.to_string()))).await
    }

    async fn delete(&self, path: &str) -> Answer {
        send(&self.address, "DELETE", path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        send(&self.address, "POST", path, Some(("application/json", body.to_string()))).await
    }
}

fn assert_problem(answer: &Answer, status: StatusCode, kind: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["type"], format!("urn:lockstep:problem:{kind}"));
    assert_eq!(problem["status"], status.as_u16());
    for field in ["title", "detail", "fix"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
    }
}

#[tokio::test]
async fn a_broker_is_live_before_it_is_ready_and_says_what_it_waits_for() {
    let broker = FakeBroker::with_topic("orders");
    broker.set_readiness(Readiness::NotReady(vec!["2 partitions are recovering".into()]));
    let served = served(broker).await;
    assert_eq!(served.get("/livez").await.status, StatusCode::OK);
    let answer = served.get("/readyz").await;
    assert_problem(&answer, StatusCode::SERVICE_UNAVAILABLE, "not-ready");
    assert!(answer.body.contains("2 partitions are recovering"), "{}", answer.body);
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_topic_can_be_created_listed_described_and_deleted() {
    let served = served(FakeBroker::default()).await;
    let created = served.post("/v1/topics", json!({ "name": "orders", "partitions": 2 })).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.body);
    assert_eq!(created.header("location"), Some("/v1/topics/orders"));
    assert_eq!(served.get("/v1/topics").await.json()["topics"][0]["name"], "orders");
    assert_eq!(served.get("/v1/topics/orders").await.json()["partitions"].as_array().unwrap().len(), 2);
    let deleted = send(&served.address, "DELETE", "/v1/topics/orders", None).await;
    assert_eq!((deleted.status, deleted.body.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_problem(&served.get("/v1/topics/orders").await, StatusCode::NOT_FOUND, "unknown-topic");
}

#[tokio::test]
async fn a_change_tells_null_from_left_out() {
    let served = served(FakeBroker::with_topic("orders")).await;
    let patch = async |body: Value| {
        let answer =
            send(&served.address, "PATCH", "/v1/topics/orders", Some(("application/json", body.to_string())));
        answer.await
    };
    let answer = patch(json!({ "partitions": 6, "config": { "retention_ms": null } })).await;
    assert_eq!(answer.status, StatusCode::OK);
    let view: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(view["partitions"].as_array().unwrap().len(), 6);
    assert_eq!(view["config"]["retention_ms"], Value::Null);
    let view: Value = serde_json::from_str(&patch(json!({})).await.body).unwrap();
    assert_eq!(view["config"]["retention_ms"], 77, "left out");
    let answer = patch(json!({ "replicas": 1 })).await;
    assert_problem(&answer, StatusCode::BAD_REQUEST, "invalid-request");
}

#[tokio::test]
async fn what_another_broker_leads_is_answered_with_its_address() {
    let broker = FakeBroker::with_topic("orders");
    broker.lead_elsewhere(2, "127.0.0.1:7412");
    let served = served(broker).await;
    let answer = served.post("/v1/topics/orders/partitions/0/trim", json!({ "log_start": 5 })).await;
    assert_problem(&answer, StatusCode::MISDIRECTED_REQUEST, "not-leader");
    assert_eq!(answer.json()["leader"], json!({ "broker": 2, "address": "127.0.0.1:7412" }));
    let answer = served.post("/v1/topics", json!({ "name": "other" })).await;
    assert_problem(&answer, StatusCode::MISDIRECTED_REQUEST, "not-leader");
}

#[tokio::test]
async fn trim_and_transfer_do_what_the_body_says() {
    let served = served(FakeBroker::with_topic("orders")).await;
    let trimmed = served.post("/v1/topics/orders/partitions/0/trim", json!({ "log_start": 5 })).await;
    assert_eq!((trimmed.status, trimmed.json()), (StatusCode::OK, json!({ "log_start": 5 })));
    assert_eq!(served.get("/v1/topics/orders/partitions/0/replica").await.json()["log_start"], 5);
    let moved = served.post("/v1/topics/orders/partitions/0/transfer", json!({ "to": 1 })).await;
    assert_eq!(moved.status, StatusCode::OK);
    let refused = served.post("/v1/topics/orders/partitions/0/transfer", json!({ "to": 9 })).await;
    assert_problem(&refused, StatusCode::BAD_REQUEST, "invalid-request");
}

#[tokio::test]
async fn a_partition_shows_every_replica_and_those_that_do_not_answer() {
    let other = FakeBroker::with_topic("orders");
    other.set_broker(2);
    let other = served(other).await;
    let broker = FakeBroker::with_topic("orders");
    broker.place(&[(1, "unused:0"), (2, &other.address), (3, "127.0.0.1:1")]);
    let served = served(broker).await;
    let view = served.get("/v1/topics/orders/partitions/0").await.json();
    assert_eq!(view["replicas"][0]["state"]["broker"], 1, "{view}");
    assert_eq!(view["replicas"][1]["state"]["broker"], 2, "{view}");
    assert_eq!(view["replicas"][2]["state"], Value::Null, "{view}");
    assert!(view["replicas"][2]["unreachable"].is_string(), "{view}");
    let brokers = served.get("/v1/brokers").await.json();
    let reachable: Vec<_> =
        brokers["brokers"].as_array().unwrap().iter().map(|n| n["reachable"].clone()).collect();
    assert_eq!(reachable, [true, true, false]);
}

#[tokio::test]
async fn a_broker_is_shown_and_removed_only_if_it_is_there_and_holds_nothing() {
    let broker = FakeBroker::default();
    broker.place(&[(1, "unused:0"), (4, "127.0.0.1:1")]);
    let served = served(broker).await;
    let four = served.get("/v1/brokers/4").await.json();
    assert_eq!((four["id"].as_u64(), four["reachable"].as_bool()), (Some(4), Some(false)));
    let remove = async |id: &str| send(&served.address, "DELETE", &format!("/v1/brokers/{id}"), None).await;
    assert_problem(&remove("1").await, StatusCode::CONFLICT, "broker-in-use");
    assert_problem(&remove("9").await, StatusCode::NOT_FOUND, "unknown-broker");
    assert_problem(&remove("four").await, StatusCode::BAD_REQUEST, "invalid-request");
    assert_eq!(remove("4").await.status, StatusCode::NO_CONTENT);
    assert_problem(&served.get("/v1/brokers/4").await, StatusCode::NOT_FOUND, "unknown-broker");
}

#[tokio::test]
async fn a_broker_drains_until_it_is_kept_unless_too_few_would_stay() {
    let broker = FakeBroker::default();
    broker.place(&[(1, "unused:0"), (4, "127.0.0.1:1")]);
    let several = served(broker).await;
    let draining = async || several.get("/v1/brokers/4").await.json()["draining"].clone();
    assert_eq!(several.put("/v1/brokers/4/drain", json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(draining().await, true);
    assert_eq!(several.delete("/v1/brokers/4/drain").await.status, StatusCode::NO_CONTENT);
    assert_eq!(draining().await, false);
    let alone = served(FakeBroker::default()).await;
    let refused = alone.put("/v1/brokers/1/drain", json!({})).await;
    assert_problem(&refused, StatusCode::CONFLICT, "too-few-brokers");
}

#[tokio::test]
async fn a_move_is_accepted_shown_and_cancelled_and_another_goal_is_refused_meanwhile() {
    let served = served(FakeBroker::with_topic("orders")).await;
    let (path, goal) = ("/v1/topics/orders/partitions/0/move", json!({ "to": [4, 1] }));
    let begun = served.put(path, goal.clone()).await;
    assert_eq!((begun.status, begun.json()), (StatusCode::ACCEPTED, goal));
    let refused = served.put(path, json!({ "to": [1, 2] })).await;
    assert_problem(&refused, StatusCode::CONFLICT, "moving-already");
    let shown = json!({ "topic": "orders", "partition": 0, "from": [1], "to": [4, 1] });
    assert_eq!(served.get("/v1/moves").await.json(), json!({ "rebalancing": false, "moves": [shown] }));
    assert_eq!(served.delete(path).await.json(), json!({ "cancelled": 1 }));
    assert_eq!(served.delete("/v1/moves").await.json(), json!({ "cancelled": 0 }));
    let unknown = served.put("/v1/topics/orders/partitions/9/move", json!({ "to": [1] })).await;
    assert_problem(&unknown, StatusCode::NOT_FOUND, "unknown-partition");
}

#[tokio::test]
async fn a_rebalance_is_looked_at_before_it_is_begun() {
    let served = served(FakeBroker::default()).await;
    let plan = served.get("/v1/rebalance").await;
    assert_eq!((plan.status, plan.json()["begun"].as_bool()), (StatusCode::OK, Some(false)));
    let begun = send(&served.address, "POST", "/v1/rebalance", None).await;
    assert_eq!((begun.status, begun.json()["begun"].as_bool()), (StatusCode::ACCEPTED, Some(true)));
}

#[tokio::test]
async fn a_groups_position_is_committed_found_by_its_decoded_name_and_deleted() {
    let served = served(FakeBroker::with_topic("orders")).await;
    let all = "/v1/topics/orders/partitions/0/positions";
    let one = format!("{all}/a%2Fb%20%C3%BC");
    let committed = served.put(&one, json!({ "next_lsn": 7, "expected_next_lsn": 0 })).await;
    assert_eq!(committed.status, StatusCode::NO_CONTENT, "{}", committed.body);
    let conflict = served.put(&one, json!({ "next_lsn": 9, "expected_next_lsn": 3 })).await;
    assert_problem(&conflict, StatusCode::CONFLICT, "position-conflict");
    let kept = served.get(&format!("{all}?group=a%2Fb%20%C3%BC")).await.json();
    assert_eq!(
        (kept["positions"][0]["group"].as_str(), kept["positions"][0]["next_lsn"].as_u64()),
        (Some("a/b ü"), Some(7))
    );
    assert_eq!(served.get(&format!("{all}?group=other")).await.json(), json!({ "positions": [] }));
    assert_eq!(served.delete(&one).await.status, StatusCode::NO_CONTENT);
    assert_eq!(served.get(all).await.json(), json!({ "positions": [] }));
    let garbled = served.put(&format!("{all}/%FF"), json!({ "next_lsn": 1 })).await;
    assert_problem(&garbled, StatusCode::BAD_REQUEST, "invalid-request");
}

#[tokio::test]
async fn other_methods_and_paths_are_refused_with_what_is_allowed() {
    let served = served(FakeBroker::with_topic("orders")).await;
    let answer = send(&served.address, "PUT", "/v1/topics", None).await;
    assert_problem(&answer, StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed");
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"));
    assert_problem(&served.get("/v2/topics").await, StatusCode::NOT_FOUND, "no-such-route");
    let answer = served.get("/v1/topics/orders/partitions/x").await;
    assert_problem(&answer, StatusCode::BAD_REQUEST, "invalid-request");
    let answer = served.get("/v1/topics/orders/partitions/7").await;
    assert_problem(&answer, StatusCode::NOT_FOUND, "unknown-partition");
}

#[tokio::test]
async fn a_body_must_be_json_small_and_of_known_fields() {
    let served = served(FakeBroker::default()).await;
    let post =
        |kind: &'static str, body: String| send(&served.address, "POST", "/v1/topics", Some((kind, body)));
    let answer = post("text/plain", json!({ "name": "orders" }).to_string()).await;
    assert_problem(&answer, StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json");
    let answer = post("application/json", "{".into()).await;
    assert_problem(&answer, StatusCode::BAD_REQUEST, "invalid-request");
    let answer = post("application/json", json!({ "name": "orders", "partition": 3 }).to_string()).await;
    assert_problem(&answer, StatusCode::BAD_REQUEST, "invalid-request");
    assert!(answer.body.contains("partition"), "{}", answer.body);
    let answer = post("application/json", format!("{{\"name\": \"{}\"}}", "x".repeat(70 << 10))).await;
    assert_problem(&answer, StatusCode::PAYLOAD_TOO_LARGE, "body-too-large");
    assert_eq!(served.get("/v1/topics").await.json()["topics"], json!([]), "nothing was created");
}

#[tokio::test]
async fn a_declared_body_that_is_too_long_is_refused_before_it_arrives() {
    let served = served(FakeBroker::default()).await;
    let head = "POST /v1/topics HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n";
    let answer = send_raw(&served.address, head).await;
    assert_problem(&answer, StatusCode::PAYLOAD_TOO_LARGE, "body-too-large");
}

#[tokio::test]
async fn rubbish_on_the_socket_leaves_the_listener_usable() {
    let served = served(FakeBroker::default()).await;
    let answer = send_raw(&served.address, "\x00\x01rubbish\r\n\r\n").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let answer = send_raw(&served.address, &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(64 << 10))).await;
    assert!(answer.status.is_client_error(), "{}", answer.status);
    assert_eq!(served.get("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn series_per_partition_are_there_only_for_who_asks() {
    let served = served(FakeBroker::with_topic("orders")).await;
    let plain = served.get("/metrics").await;
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(plain.body.contains("\nlockstep_shards{health=\"ok\"} "), "{}", plain.body);
    assert!(!plain.body.contains("topic=\"orders\""), "{}", plain.body);
    let asked = served.get("/metrics?partitions=true").await;
    let series = "lockstep_partition_high_watermark{topic=\"orders\",partition=\"0\"} 7";
    assert!(asked.body.contains(series), "{}", asked.body);
}

#[tokio::test]
async fn the_effective_configuration_is_shown() {
    let served = served(FakeBroker::default()).await;
    let config = served.get("/v1/config").await.json();
    assert_eq!((config["node"].as_u64(), config["raft"]["tick_ms"].as_u64()), (Some(1), Some(50)));
}
