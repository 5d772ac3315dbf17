//! A bare client: it says exactly what a test tells it to.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use lockstep_protocol::frame::FrameKind;
use lockstep_protocol::native::{
    Api, CreateTopicRequest, FetchItem, FetchRequest, Fetched, HelloRequest, HelloResponse, Message,
    ProduceItem, ProduceRequest, Produced, Push, TopicConfig, TopicMetadata,
};
use lockstep_protocol::record::RecordIter;
use lockstep_protocol::{Batches, EncodedFrame, Frame, FrameDecoder, Outcome, Request, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

pub(super) struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    decoder: FrameDecoder,
    correlation: u32,
    set_aside: VecDeque<Frame>,
}

impl Client {
    /// A connection on which nothing has been said.
    pub(super) async fn silent(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        Client {
            stream,
            buffer: BytesMut::new(),
            decoder: FrameDecoder::new(256 << 20),
            correlation: 0,
            set_aside: VecDeque::new(),
        }
    }

    /// A connection that has been greeted.
    pub(super) async fn connect(address: SocketAddr) -> Client {
        let mut client = Client::silent(address).await;
        client.hello(None).await.unwrap();
        client
    }

    pub(super) async fn hello(&mut self, cluster: Option<[u8; 16]>) -> Outcome<HelloResponse> {
        self.call(&HelloRequest { min_version: 1, max_version: 1, cluster, client: "test".into() }).await
    }

    pub(super) async fn call<R: Request>(&mut self, request: &R) -> Outcome<R::Response> {
        self.call_with(request, Vec::new()).await.0
    }

    pub(super) async fn call_with<R: Request>(
        &mut self,
        request: &R,
        payload: Vec<Bytes>,
    ) -> (Outcome<R::Response>, Bytes) {
        let correlation = self.send(request, payload).await;
        self.response::<R>(correlation).await
    }

    /// Sends a request and returns its correlation.
    pub(super) async fn send<M: Message>(&mut self, message: &M, payload: Vec<Bytes>) -> u32 {
        self.correlation += 1;
        self.send_bytes(&EncodedFrame::request(self.correlation, message, payload).to_bytes()).await;
        self.correlation
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Closes this side's direction: nothing more will be asked.
    pub(super) async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    pub(super) async fn response<R: Request>(&mut self, correlation: u32) -> (Outcome<R::Response>, Bytes) {
        let wanted = |frame: &Frame| frame.kind == FrameKind::Response && frame.correlation == correlation;
        let frame = self.frame(wanted).await.expect("the broker closed the connection instead of answering");
        assert_eq!(frame.api, R::API);
        (Wire::decode(&frame.meta).unwrap(), frame.payload)
    }

    pub(super) async fn push(&mut self, correlation: u32) -> (Outcome<Push>, Bytes) {
        let wanted = |frame: &Frame| frame.kind == FrameKind::Push && frame.correlation == correlation;
        let frame = self.frame(wanted).await.expect("the broker closed the connection instead of pushing");
        assert_eq!(frame.api, Api::Subscribe);
        (Wire::decode(&frame.meta).unwrap(), frame.payload)
    }

    /// The next frame that is wanted; others are kept for later. `None` once the broker has closed.
    pub(super) async fn frame(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        if let Some(found) = self.set_aside.iter().position(&wanted) {
            return self.set_aside.remove(found);
        }
        loop {
            while let Some(frame) = self.decoder.decode(&mut self.buffer).unwrap() {
                if wanted(&frame) {
                    return Some(frame);
                }
                self.set_aside.push_back(frame);
            }
            let read = self.stream.read_buf(&mut self.buffer);
            match tokio::time::timeout(PATIENCE, read).await.expect("the broker says nothing") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Whether nothing else has come so far: asks something and sees only its answer.
    pub(super) fn nothing_set_aside(&self) -> bool {
        self.set_aside.is_empty()
    }

    pub(super) async fn create_topic(&mut self, name: &str, partitions: u32) -> Outcome<TopicMetadata> {
        let request = CreateTopicRequest {
            name: name.into(),
            partitions,
            replication: 0,
            config: TopicConfig::default(),
            timeout_ms: 10_000,
        };
        self.call(&request).await.map(|response| response.topic)
    }

    pub(super) async fn produce(&mut self, topic: &str, batch: Bytes) -> Outcome<Produced> {
        let item = produce_item(topic, &batch);
        self.produce_item(item, batch).await
    }

    pub(super) async fn produce_item(&mut self, item: ProduceItem, batch: Bytes) -> Outcome<Produced> {
        let request = ProduceRequest { timeout_ms: 10_000, batches: vec![item] };
        let (response, _) = self.call_with(&request, vec![batch]).await;
        response.and_then(|mut response| response.results.remove(0))
    }

    /// What one partition has from `from_lsn` on, waiting for at least a byte.
    pub(super) async fn fetch(
        &mut self,
        topic: &str,
        from_lsn: u64,
        max_bytes: u32,
    ) -> Outcome<(Fetched, Bytes)> {
        let item = FetchItem { topic: topic.into(), partition: 0, from_lsn, max_bytes };
        let request = FetchRequest { max_wait_ms: 10_000, min_bytes: 1, max_bytes, items: vec![item] };
        let (response, payload) = self.call_with(&request, Vec::new()).await;
        let fetched = response.and_then(|mut response| response.items.remove(0))?;
        assert_eq!(fetched.payload_length as usize, payload.len());
        Ok((fetched, payload))
    }

    /// All values of a partition from LSN 1 to `last_lsn`, by LSN.
    pub(super) async fn read_all(&mut self, topic: &str, last_lsn: u64) -> Vec<(u64, String)> {
        let mut all: Vec<(u64, String)> = Vec::new();
        while (all.len() as u64) < last_lsn {
            let (_, payload) = self.fetch(topic, all.len() as u64 + 1, 1 << 20).await.unwrap();
            all.extend(values(payload));
        }
        all
    }
}

pub(super) fn produce_item(topic: &str, batch: &Bytes) -> ProduceItem {
    ProduceItem {
        topic: topic.into(),
        partition: 0,
        expected_next_lsn: None,
        fence: None,
        position: None,
        batch_length: batch.len() as u32,
    }
}

/// The values in a payload, with their LSNs.
pub(super) fn values(payload: Bytes) -> Vec<(u64, String)> {
    let batches = Batches::new(payload).map(Result::unwrap);
    let records = batches.flat_map(|batch| RecordIter::new(batch).unwrap()).map(Result::unwrap);
    let text = |value: Option<Bytes>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap();
    records.map(|numbered| (numbered.lsn, text(numbered.record.value))).collect()
}
