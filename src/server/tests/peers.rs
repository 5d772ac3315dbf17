//! Strangers and impostors at the peer listener.

use std::net::SocketAddr;

use bytes::BytesMut;
use lockstep_protocol::peer::{Numbered, PEER_VERSION, PeerDecoder, PeerHello, PeerMessage, PeerWelcome};
use lockstep_protocol::{ErrorCode, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

struct Stranger {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Stranger {
    async fn connect(address: SocketAddr) -> Stranger {
        Stranger { stream: TcpStream::connect(address).await.unwrap(), buffer: BytesMut::new() }
    }

    async fn say(&mut self, message: &PeerMessage) {
        self.stream.write_all(&message.encode().to_bytes()).await.unwrap();
    }

    /// The next message; `None` once the connection is closed.
    async fn hear(&mut self) -> Option<PeerMessage> {
        loop {
            if let Some(message) = PeerDecoder::new(1 << 20).decode(&mut self.buffer).unwrap() {
                return Some(message);
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.unwrap();
            if !matches!(read, Ok(count) if count > 0) {
                return None;
            }
        }
    }

    async fn greet(&mut self, hello: PeerHello) -> Outcome<PeerWelcome> {
        self.say(&PeerMessage::Hello(hello)).await;
        match self.hear().await.expect("closed without an answer") {
            PeerMessage::HelloReply(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }
}

fn hello() -> PeerHello {
    PeerHello { version: PEER_VERSION, cluster: CLUSTER.0, from: 2, to: 1, directory: [2; 16] }
}

/// Node 1 of three; the others are not there.
async fn lonely(root: &std::path::Path) -> Server {
    let (config, sockets) = plan(root, 3).remove(0);
    format(&config.data, CLUSTER, 1).unwrap();
    Server::start_on(config, sockets).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_cluster_node_or_version_is_refused_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let server = lonely(root.path()).await;
    let cases = [
        (PeerHello { cluster: [9; 16], ..hello() }, ErrorCode::ClusterMismatch),
        (PeerHello { to: 3, ..hello() }, ErrorCode::NodeMismatch),
        (PeerHello { from: 9, ..hello() }, ErrorCode::NodeMismatch),
        (PeerHello { from: 1, ..hello() }, ErrorCode::NodeMismatch),
        (PeerHello { version: 9, ..hello() }, ErrorCode::UnsupportedVersion),
    ];
    for (hello, code) in cases {
        let mut stranger = Stranger::connect(server.addresses().peer).await;
        assert_eq!(stranger.greet(hello).await.unwrap_err().code, code);
        assert!(stranger.hear().await.is_none(), "a refused peer stays connected");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_with_another_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let server = lonely(root.path()).await;
    let mut first = Stranger::connect(server.addresses().peer).await;
    first.greet(hello()).await.unwrap();
    let mut emptied = Stranger::connect(server.addresses().peer).await;
    let refused = emptied.greet(PeerHello { directory: [3; 16], ..hello() }).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NodeMismatch);
    assert!(refused.message.contains("new id"), "{refused}");
    Stranger::connect(server.addresses().peer).await.greet(hello()).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_before_hello_or_nonsense_is_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let server = lonely(root.path()).await;
    let mut early = Stranger::connect(server.addresses().peer).await;
    early.say(&PeerMessage::Heartbeats(Vec::new())).await;
    assert!(early.hear().await.is_none());
    let mut noise = Stranger::connect(server.addresses().peer).await;
    noise.stream.write_all(&[0xFF; 64]).await.unwrap();
    assert!(noise.hear().await.is_none());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greeted_peer_hears_that_this_side_is_alive() {
    let root = tempfile::tempdir().unwrap();
    let server = lonely(root.path()).await;
    let mut peer = Stranger::connect(server.addresses().peer).await;
    peer.greet(hello()).await.unwrap();
    assert_eq!(peer.hear().await, Some(PeerMessage::Heartbeats(Vec::new())));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_on_the_connection_it_came_on() {
    let root = tempfile::tempdir().unwrap();
    let server = lonely(root.path()).await;
    let mut peer = Stranger::connect(server.addresses().peer).await;
    peer.greet(hello()).await.unwrap();
    let questions = [
        (5, r#"{"v":2,"write":[{"reserve_producers":{"count":1}}]}"#, "not_leader"),
        (6, r#"{"v":2,"dance":{}}"#, "malformed"),
        (7, "\u{0}", "malformed"),
    ];
    for (number, text, expected) in questions {
        peer.say(&PeerMessage::Question(Numbered { number, text: text.into() })).await;
        let answer = loop {
            match peer.hear().await.expect("closed without an answer") {
                PeerMessage::Heartbeats(_) => {}
                PeerMessage::Answer(answer) => break answer,
                other => panic!("{other:?}"),
            }
        };
        let text = String::from_utf8(answer.text.to_vec()).unwrap();
        assert_eq!(answer.number, number);
        assert!(text.contains(expected), "{text}");
    }
    server.stop().await;
}
