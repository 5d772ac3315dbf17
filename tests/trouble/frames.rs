//! Frames no client should send, on real sockets of a real broker: bytes by hand, as another client might get them
//! wrong.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

use bytes::{Bytes, BytesMut};
use lockstep_protocol::{
    BatchBuilder, EncodedFrame, ErrorCode, ErrorOutcome, Frame, FrameDecoder, Message, Outcome,
    ProducerSequence, Record, Wire,
    native::{HelloRequest, ListTopicsRequest, ProduceItem, ProduceRequest, ProduceResponse, Produced},
};

use crate::{
    PATIENCE, assert_says,
    ledger::Ledger,
    processes::{LocalCluster, Node},
};

const TOPIC: &str = "frames";
/// What one process may grow by while it is lied to; far below any length that is declared here.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// A socket to a broker.
struct Socket {
    stream: TcpStream,
    decoder: FrameDecoder,
    buffer: BytesMut,
}

impl Socket {
    /// A connection on which nothing has been said.
    fn silent(node: &Node) -> Self {
        let stream = TcpStream::connect(&node.native).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Self { stream, decoder: FrameDecoder::new(64 << 20), buffer: BytesMut::new() }
    }

    /// A connection that has been greeted.
    fn greeted(node: &Node) -> Self {
        let mut socket = Self::silent(node);
        let hello = HelloRequest { min_version: 1, max_version: 1, cluster: None, client: "raw".into() };
        socket.send(&request(1, &hello));
        assert_eq!(u16::from_le_bytes([socket.answer(1).meta[0], 0]), 0, "the broker greets back");
        socket
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker reads");
    }

    /// The next frame; `None` once the broker has closed.
    fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).expect("brokers send sound frames") {
                return Some(frame);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the broker says nothing: {error}"),
            }
        }
    }

    fn answer(&mut self, correlation: u32) -> Frame {
        let frame = self.next().expect("the broker closed the connection instead of answering");
        assert_eq!(frame.correlation, correlation);
        frame
    }

    fn refusal(&mut self, correlation: u32) -> ErrorOutcome {
        ErrorOutcome::decode(&self.answer(correlation).meta).expect("a refusal")
    }

    /// The raw answer to an api that has no name: its code.
    fn code_of_unknown_api(&mut self) -> u16 {
        let mut head = [0; 22];
        self.stream.read_exact(&mut head).expect("the broker answers");
        let rest = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize + 4 - head.len();
        self.stream.read_exact(&mut vec![0; rest]).expect("the rest of the answer");
        u16::from_le_bytes([head[20], head[21]])
    }

    fn produce(&mut self, batch: Bytes) -> Outcome<Produced> {
        let item = ProduceItem {
            topic: TOPIC.into(),
            partition: 0,
            expected_next_lsn: None,
            fence: None,
            position: None,
            batch_length: batch.len() as u32,
        };
        let produce = ProduceRequest { timeout_ms: 10_000, batches: vec![item] };
        self.send(&EncodedFrame::request(9, &produce, vec![batch]).to_bytes());
        let answer: Outcome<ProduceResponse> = Wire::decode(&self.answer(9).meta).expect("an answer");
        answer?.results.into_iter().next().expect("one result for each batch")
    }

    /// Writes one more record, which must be acknowledged.
    fn write(&mut self, ledger: &mut Ledger) {
        let record = format!("record {}", ledger.len());
        let produced = self.produce(batch(&[&record])).expect("a sound batch is taken");
        ledger.note(record);
        assert_eq!(produced.first_lsn, ledger.len() as u64);
    }
}

fn request(correlation: u32, message: &impl Message) -> BytesMut {
    BytesMut::from(&EncodedFrame::request(correlation, message, Vec::new()).to_bytes()[..])
}

/// A sound request to be bent.
fn list_topics(correlation: u32) -> BytesMut {
    request(correlation, &ListTopicsRequest {})
}

fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push(&Record::new(1, value.as_bytes().to_vec())).expect("a short record");
    }
    builder.build(ProducerSequence::NONE).expect("a small batch")
}

/// CRC-32C, bit by bit: independent of the code under test.
fn crc32c(bytes: &[u8]) -> u32 {
    let shifted = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shifted(crc)))
}

/// Makes a bent frame's checksum right again.
fn seal_frame(frame: &mut [u8]) {
    let crc = crc32c(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Makes a bent batch's checksum right again.
fn seal_batch(batch: &mut [u8]) {
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A cluster with a topic, and the leader of its partition.
fn cluster_and_leader() -> (LocalCluster, Node) {
    let cluster = LocalCluster::start();
    cluster.run(&["topic", "create", TOPIC]);
    let leader = cluster.leader(TOPIC);
    (cluster, leader)
}

/// Resident bytes of a process.
fn resident_bytes(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid)).expect("the broker runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes * 1024
}

#[test]
fn a_bent_frame_costs_its_request_and_the_connection_goes_on() {
    let (cluster, leader) = cluster_and_leader();
    let mut ledger = Ledger::new(TOPIC);
    let mut socket = Socket::greeted(&leader);
    socket.write(&mut ledger);

    let mut frame = list_topics(2);
    frame[4] ^= 1;
    socket.send(&frame);
    let refusal = socket.refusal(2);
    assert_eq!(refusal.code, ErrorCode::BadChecksum);
    assert_says(&refusal.message, &["checksum", "send it again"]);
    socket.write(&mut ledger);

    let mut frame = list_topics(3);
    frame[10] = 2;
    seal_frame(&mut frame);
    socket.send(&frame);
    let refusal = socket.refusal(3);
    assert_eq!(refusal.code, ErrorCode::UnsupportedVersion);
    assert_says(&refusal.message, &["version 2", "use version 1"]);
    socket.write(&mut ledger);

    let mut frame = list_topics(4);
    frame[9] = 0xEE;
    seal_frame(&mut frame);
    socket.send(&frame);
    assert_eq!(socket.code_of_unknown_api(), ErrorCode::UnknownRequest as u16);
    socket.write(&mut ledger);

    let mut frame = list_topics(5);
    frame[8] = 9;
    seal_frame(&mut frame);
    socket.send(&frame);
    let refusal = socket.refusal(5);
    assert_eq!(refusal.code, ErrorCode::MalformedRequest);
    assert_says(&refusal.message, &["kind 9", "use 1"]);
    socket.write(&mut ledger);

    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn a_frame_without_boundaries_costs_its_connection_and_no_other() {
    let (cluster, leader) = cluster_and_leader();
    let mut ledger = Ledger::new(TOPIC);
    let mut steady = Socket::greeted(&leader);
    let mut too_long = list_topics(2);
    too_long[..4].copy_from_slice(&(16u32 << 20).to_le_bytes());
    let mut too_short = list_topics(2);
    too_short[..4].copy_from_slice(&8u32.to_le_bytes());
    let mut overhang = list_topics(2);
    overhang[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    let garbage = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let cases = [
        (&too_long[..], ErrorCode::FrameTooLarge),
        (&too_short[..], ErrorCode::MalformedRequest),
        (&overhang[..], ErrorCode::MalformedRequest),
        (&garbage[..], ErrorCode::FrameTooLarge),
        (&[0; 64][..], ErrorCode::MalformedRequest),
        (&[0xFF; 64][..], ErrorCode::FrameTooLarge),
    ];
    for (bytes, code) in cases {
        for mut socket in [Socket::silent(&leader), Socket::greeted(&leader)] {
            socket.send(bytes);
            let refusal = socket.refusal(u32::MAX);
            assert_eq!(refusal.code, code, "{bytes:?}");
            assert!(!refusal.message.is_empty());
            assert!(socket.next().is_none(), "nothing can follow a frame whose end is unknown");
        }
        steady.write(&mut ledger);
    }
    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn a_truncated_frame_changes_nothing_wherever_it_is_cut() {
    let (cluster, leader) = cluster_and_leader();
    let mut ledger = Ledger::new(TOPIC);
    let mut steady = Socket::greeted(&leader);
    let item = ProduceItem {
        topic: TOPIC.into(),
        partition: 0,
        expected_next_lsn: None,
        fence: None,
        position: None,
        batch_length: batch(&["never whole"]).len() as u32,
    };
    let produce = ProduceRequest { timeout_ms: 1_000, batches: vec![item] };
    let whole = EncodedFrame::request(2, &produce, vec![batch(&["never whole"])]).to_bytes();
    for length in 1..whole.len() {
        let mut socket = Socket::greeted(&leader);
        socket.send(&whole[..length]);
        drop(socket);
        if length % 20 == 0 {
            steady.write(&mut ledger);
        }
    }
    ledger.is_whole_everywhere(&cluster);

    // What stays open half-way is no request either, and keeps nobody.
    let mut stalled = Socket::greeted(&leader);
    stalled.send(&whole[..whole.len() - 1]);
    steady.write(&mut ledger);
    ledger.is_whole_everywhere(&cluster);
    stalled.send(&whole[whole.len() - 1..]);
    assert!(!stalled.answer(2).meta.is_empty());
    ledger.note("never whole");
    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn a_declared_length_costs_no_memory_before_it_is_checked() {
    let (cluster, leader) = cluster_and_leader();
    let mut ledger = Ledger::new(TOPIC);
    let mut steady = Socket::greeted(&leader);
    steady.write(&mut ledger);
    let before = resident_bytes(&leader);

    let mut refused = Vec::new();
    for _ in 0..64 {
        let mut socket = Socket::silent(&leader);
        let mut frame = list_topics(2);
        frame[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        socket.send(&frame);
        assert_eq!(socket.refusal(u32::MAX).code, ErrorCode::FrameTooLarge);
        refused.push(socket);
    }
    let grown = resident_bytes(&leader).saturating_sub(before);
    assert!(
        grown < GROWTH_BYTES_MAX,
        "64 frames of 4 GiB were declared, and the broker grew by {grown} bytes"
    );
    // Counts inside of a message lie as easily as its length.
    let produce = ProduceRequest { timeout_ms: 1_000, batches: Vec::new() };
    let mut frame = request(3, &produce);
    let count_at = frame.len() - 4;
    frame[count_at..].copy_from_slice(&u32::MAX.to_le_bytes());
    seal_frame(&mut frame);
    steady.send(&frame);
    assert_eq!(steady.refusal(3).code, ErrorCode::MalformedRequest);
    let grown = resident_bytes(&leader).saturating_sub(before);
    assert!(
        grown < GROWTH_BYTES_MAX,
        "4 billion batches were declared, and the broker grew by {grown} bytes"
    );
    steady.write(&mut ledger);
    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn strangers_who_announce_much_and_send_nothing_hold_up_no_producer() {
    let (cluster, leader) = cluster_and_leader();
    let mut ledger = Ledger::new(TOPIC);
    let mut steady = Socket::greeted(&leader);
    // Together more than the bytes a broker has for batches in flight.
    let strangers: Vec<Socket> = (0..32)
        .map(|_| {
            let mut socket = Socket::silent(&leader);
            socket.send(&((16u32 << 20) - 4).to_le_bytes());
            socket.send(&[0; 100]);
            socket
        })
        .collect();
    for mut stranger in strangers {
        assert_eq!(stranger.refusal(u32::MAX).code, ErrorCode::FrameTooLarge);
        steady.write(&mut ledger);
    }
    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn a_request_before_hello_is_refused_and_hello_still_welcome() {
    let (cluster, leader) = cluster_and_leader();
    let mut ledger = Ledger::new(TOPIC);
    let mut socket = Socket::silent(&leader);
    socket.send(&list_topics(2));
    assert_eq!(socket.refusal(2).code, ErrorCode::HandshakeRequired);
    let stranger =
        HelloRequest { min_version: 1, max_version: 1, cluster: Some([0xBA; 16]), client: "raw".into() };
    socket.send(&request(3, &stranger));
    let refusal = socket.refusal(3);
    assert_eq!(refusal.code, ErrorCode::ClusterMismatch);
    assert_says(&refusal.message, &["belongs to cluster", "correct the address or the cluster id"]);
    let ahead = HelloRequest { min_version: 2, max_version: 9, cluster: None, client: "raw".into() };
    socket.send(&request(4, &ahead));
    assert_eq!(socket.refusal(4).code, ErrorCode::UnsupportedVersion);
    let hello = HelloRequest { min_version: 1, max_version: 9, cluster: None, client: "raw".into() };
    socket.send(&request(5, &hello));
    assert_eq!(&socket.answer(5).meta[..2], &[0, 0], "Hello succeeds");
    socket.write(&mut ledger);
    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn a_batch_that_lies_about_itself_is_refused_and_takes_no_lsn() {
    let (cluster, leader) = cluster_and_leader();
    let mut ledger = Ledger::new(TOPIC);
    let mut socket = Socket::greeted(&leader);
    let sound = batch(&["a", "b"]);
    let bent = |at: usize, byte: u8, seal: bool| {
        let mut bytes = BytesMut::from(&sound[..]);
        bytes[at] = byte;
        if seal {
            seal_batch(&mut bytes);
        }
        bytes.freeze()
    };
    let last = sound.len() - 1;
    let mut none = BytesMut::from(&sound[..61]);
    none[8..12].copy_from_slice(&(61u32 - 12).to_be_bytes());
    none[23..27].copy_from_slice(&(-1i32).to_be_bytes());
    none[57..61].copy_from_slice(&0u32.to_be_bytes());
    seal_batch(&mut none);
    let lies = [
        ("a flipped bit under the old checksum", bent(last, sound[last] ^ 1, false), ErrorCode::InvalidBatch),
        ("more records than there are", bent(60, 3, true), ErrorCode::InvalidBatch),
        ("fewer records than there are", bent(60, 1, true), ErrorCode::InvalidBatch),
        ("another last offset", bent(26, 9, true), ErrorCode::InvalidBatch),
        ("a greater length", bent(11, sound[11] + 1, true), ErrorCode::InvalidBatch),
        ("2 GiB of length", bent(8, 0x7F, true), ErrorCode::InvalidBatch),
        ("another format", bent(16, 1, true), ErrorCode::InvalidBatch),
        ("a compression", bent(22, 1, true), ErrorCode::InvalidBatch),
        ("half of itself", sound.slice(..sound.len() / 2), ErrorCode::InvalidBatch),
        ("no records", none.freeze(), ErrorCode::EmptyBatch),
    ];
    for (what, batch, code) in lies {
        let refusal = socket.produce(batch).expect_err(what);
        assert_eq!(refusal.code, code, "{what}: {}", refusal.message);
        socket.write(&mut ledger);
    }
    ledger.is_whole_everywhere(&cluster);
}
