//! The admin interface: any bytes on a connection, before a broker that answers from memory.

use std::cell::OnceCell;
use std::sync::Arc;

use lockstep::admin::{
    AdminError, BrokerView, ClusterView, Control, MovesView, NewPosition, NewTopic, PositionView, Readiness,
    RebalanceView, ReplicaState, ShardSample, TopicChange, TopicSettings, TopicSummary, TopicView,
    serve_stream,
};
use lockstep::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

use super::super::choices::Choices;

/// More than all answers to the longest input.
const STREAM_BYTES: usize = 4 << 20;

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// A connection: bytes as they are, or a request with any path, type and body.
pub fn http(input: &[u8]) {
    let mut choices = Choices::new(input);
    let sent = if choices.flag() { request(&mut choices) } else { choices.rest().to_vec() };
    RUNTIME.with(|runtime| {
        let runtime =
            runtime.get_or_init(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
        let answers = runtime.block_on(conversation(&sent));
        check(&answers);
    });
}

/// A well-formed request, so that the fuzzer need not find HTTP first.
fn request(choices: &mut Choices) -> Vec<u8> {
    const METHODS: [&str; 6] = ["GET", "POST", "DELETE", "HEAD", "PUT", "PATCH"];
    const TAILS: [&str; 9] = [
        "",
        "/partitions/0",
        "/partitions/0/trim",
        "/partitions/0/transfer",
        "/partitions/0/move",
        "/partitions/0/positions",
        "/partitions/0/positions/g",
        "/",
        "?x=1",
    ];
    let method = METHODS[choices.below(6) as usize];
    let json = choices.flag();
    let name: String =
        choices.bytes(20).iter().filter(|b| b.is_ascii_graphic()).map(|b| char::from(*b)).collect();
    let path = match choices.below(4) {
        0 => "/v1/topics".to_owned(),
        1 => format!("/v1/topics/kept{}", TAILS[choices.below(9) as usize]),
        2 => format!("/v1/topics/{name}{}", TAILS[choices.below(9) as usize]),
        _ => format!("/{name}"),
    };
    let body = choices.rest();
    let content_type = if json { "Content-Type: application/json\r\n" } else { "" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\n{content_type}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Sends, says that nothing follows, and hears the broker out.
async fn conversation(sent: &[u8]) -> Vec<u8> {
    let (mut client, server) = tokio::io::duplex(STREAM_BYTES);
    client.write_all(sent).await.expect("it fits");
    client.shutdown().await.expect("a stream in memory");
    let mut answers = Vec::new();
    let heard = async move { client.read_to_end(&mut answers).await.map(|_| answers) };
    let ((), answers) = tokio::join!(serve_stream(server, Arc::new(InMemory(Config::default()))), heard);
    answers.expect("a stream in memory")
}

/// Whatever was sent, what comes back is HTTP, and no answer blames the broker.
fn check(answers: &[u8]) {
    assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "an answer is HTTP");
    let internal = answers.windows(13).any(|window| window == b"HTTP/1.1 500 ");
    assert!(!internal, "no request is the broker's fault: {}", String::from_utf8_lossy(answers));
}

/// A broker with one topic, `kept`.
struct InMemory(Config);

fn known(name: &str) -> Result<TopicView, AdminError> {
    match name {
        "kept" => {
            Ok(TopicView { name: name.into(), id: 1, config: TopicSettings::default(), partitions: vec![] })
        }
        _ => Err(AdminError::UnknownTopic(name.into())),
    }
}

impl Control for InMemory {
    fn readiness(&self) -> Readiness {
        Readiness::NotReady(vec!["it is made up".into()])
    }

    fn cluster(&self) -> ClusterView {
        ClusterView {
            cluster: "0".repeat(32),
            broker: 1,
            version: "0".into(),
            metadata_leader: None,
            metadata_term: 1,
            brokers: 1,
            topics: 1,
            partitions: 0,
            leaderless_partitions: 0,
        }
    }

    fn brokers(&self) -> Vec<BrokerView> {
        vec![]
    }

    async fn remove_broker(&self, id: u64) -> Result<(), AdminError> {
        Err(AdminError::UnknownBroker(id))
    }

    async fn drain(&self, id: u64, _draining: bool) -> Result<(), AdminError> {
        Err(AdminError::UnknownBroker(id))
    }

    fn moves(&self) -> MovesView {
        MovesView::default()
    }

    async fn move_partition(&self, topic: &str, _partition: u32, _to: &[u64]) -> Result<(), AdminError> {
        known(topic).map(|_| ())
    }

    async fn cancel_moves(&self, _partition: Option<(&str, u32)>) -> Result<usize, AdminError> {
        Ok(0)
    }

    async fn rebalance(&self, _dry_run: bool) -> Result<RebalanceView, AdminError> {
        Ok(RebalanceView::default())
    }

    fn topics(&self) -> Vec<TopicSummary> {
        vec![TopicSummary { name: "kept".into(), id: 1, partitions: 0 }]
    }

    async fn topic(&self, name: &str) -> Result<TopicView, AdminError> {
        known(name)
    }

    async fn create_topic(&self, topic: NewTopic) -> Result<TopicView, AdminError> {
        let NewTopic { name, config, .. } = topic;
        Ok(TopicView { name, id: 2, config, partitions: vec![] })
    }

    async fn alter_topic(&self, name: &str, _change: TopicChange) -> Result<TopicView, AdminError> {
        known(name)
    }

    async fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        known(name).map(|_| ())
    }

    async fn replica(&self, topic: &str, partition: u32) -> Result<ReplicaState, AdminError> {
        known(topic)?;
        Err(AdminError::NoReplicaHere { topic: topic.into(), partition })
    }

    async fn transfer(&self, topic: &str, _partition: u32, _to: u64) -> Result<(), AdminError> {
        known(topic).map(|_| ())
    }

    async fn trim(&self, topic: &str, _partition: u32, log_start: u64) -> Result<u64, AdminError> {
        known(topic).map(|_| log_start)
    }

    async fn positions(
        &self,
        topic: &str,
        _partition: u32,
        _group: Option<&str>,
    ) -> Result<Vec<PositionView>, AdminError> {
        known(topic).map(|_| vec![])
    }

    async fn commit_position(
        &self,
        topic: &str,
        _partition: u32,
        _group: &str,
        _position: NewPosition,
    ) -> Result<(), AdminError> {
        known(topic).map(|_| ())
    }

    async fn delete_positions(&self, topic: &str, _partition: u32, _group: &str) -> Result<(), AdminError> {
        known(topic).map(|_| ())
    }

    fn config(&self) -> &Config {
        &self.0
    }

    async fn samples(&self) -> Vec<ShardSample> {
        vec![]
    }

    fn disk_free_bytes(&self) -> Option<u64> {
        None
    }
}
