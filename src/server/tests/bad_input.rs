//! What a client may not say, and that others do not notice.

use bytes::{Bytes, BytesMut};
use lockstep_protocol::native::{Api, ListTopicsRequest, ProduceRequest, SubscribeRequest};
use lockstep_protocol::{EncodedFrame, ErrorCode, ErrorOutcome, Wire};
use tokio::io::AsyncWriteExt;

use super::client::produce_item;
use super::*;

fn request_frame(correlation: u32) -> BytesMut {
    BytesMut::from(&EncodedFrame::request(correlation, &ListTopicsRequest {}, Vec::new()).to_bytes()[..])
}

/// Computes a frame's checksum anew, after a test has bent its header.
fn seal(frame: &mut [u8]) {
    let crc = {
        // CRC-32C, bit by bit: independent of the code under test.
        frame[8..].iter().fold(!0u32, |crc, byte| {
            (0..8).fold(
                crc ^ u32::from(*byte),
                |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 },
            )
        })
    };
    frame[4..8].copy_from_slice(&(!crc).to_le_bytes());
}

async fn refusal(client: &mut Client, correlation: u32) -> ErrorOutcome {
    let frame = client.frame(|frame| frame.correlation == correlation).await.expect("no answer");
    ErrorOutcome::decode(&frame.meta).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bent_frame_costs_its_request_and_not_the_connection() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;

    let mut bad_checksum = request_frame(71);
    bad_checksum[4] ^= 1;
    client.send_bytes(&bad_checksum).await;
    assert_eq!(refusal(&mut client, 71).await.code, ErrorCode::BadChecksum);

    let mut version = request_frame(72);
    version[10] = 9;
    seal(&mut version);
    client.send_bytes(&version).await;
    assert_eq!(refusal(&mut client, 72).await.code, ErrorCode::UnsupportedVersion);

    let mut kind = request_frame(74);
    kind[8] = 2;
    seal(&mut kind);
    client.send_bytes(&kind).await;
    assert_eq!(refusal(&mut client, 74).await.code, ErrorCode::MalformedRequest);

    // A produce request whose message is cut off in the middle.
    let produce =
        ProduceRequest { timeout_ms: 1, batches: vec![produce_item("t", &Bytes::from_static(b"xyz"))] };
    let whole = EncodedFrame::request(75, &produce, Vec::new()).to_bytes();
    let mut cut = BytesMut::from(&whole[..whole.len() - 5]);
    let length = cut.len() as u32;
    cut[..4].copy_from_slice(&(length - 4).to_le_bytes());
    cut[16..20].copy_from_slice(&(length - 20).to_le_bytes());
    seal(&mut cut);
    client.send_bytes(&cut).await;
    assert_eq!(refusal(&mut client, 75).await.code, ErrorCode::MalformedRequest);

    client.call(&ListTopicsRequest {}).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_request_is_answered_as_such() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = tokio::net::TcpStream::connect(server.addresses().native).await.unwrap();
    let mut unknown = request_frame(73);
    unknown[9] = 200;
    seal(&mut unknown);
    client.write_all(&unknown).await.unwrap();
    let mut answer = BytesMut::new();
    while answer.len() < 22 {
        assert_ne!(tokio::io::AsyncReadExt::read_buf(&mut client, &mut answer).await.unwrap(), 0);
    }
    assert_eq!(answer[9], 200, "the answer repeats the api, known or not");
    assert_eq!(u16::from_le_bytes([answer[20], answer[21]]), ErrorCode::UnknownRequest as u16);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_frame_boundaries_are_told_and_end_the_connection() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    // Lengths: far beyond the limit, shorter than a header, a message longer than its frame.
    let mut too_long = request_frame(5);
    too_long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut too_short = request_frame(5);
    too_short[..4].copy_from_slice(&3u32.to_le_bytes());
    let mut overhang = request_frame(5);
    overhang[16..20].copy_from_slice(&1000u32.to_le_bytes());
    let cases = [
        (too_long, ErrorCode::FrameTooLarge),
        (too_short, ErrorCode::MalformedRequest),
        (overhang, ErrorCode::MalformedRequest),
    ];
    for (bytes, code) in cases {
        let mut client = Client::connect(server.addresses().native).await;
        client.send_bytes(&bytes).await;
        assert_eq!(refusal(&mut client, u32::MAX).await.code, code);
        assert!(client.frame(|_| true).await.is_none(), "the connection stayed open");
    }
    Client::connect(server.addresses().native).await.call(&ListTopicsRequest {}).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_served_before_hello_and_no_other_cluster_after_it() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::silent(server.addresses().native).await;
    let early = client.call(&ListTopicsRequest {}).await.unwrap_err();
    assert_eq!(early.code, ErrorCode::HandshakeRequired);
    assert_eq!(client.hello(Some([9; 16])).await.unwrap_err().code, ErrorCode::ClusterMismatch);
    assert_eq!(client.call(&ListTopicsRequest {}).await.unwrap_err().code, ErrorCode::HandshakeRequired);
    let welcome = client.hello(None).await.unwrap();
    assert_eq!(welcome.node, 1);
    client.hello(Some(welcome.cluster)).await.unwrap();
    client.call(&ListTopicsRequest {}).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_lies_is_refused_and_leaves_no_trace() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    let sound = batch(&["a", "b"]);
    let mut flipped = BytesMut::from(&sound[..]);
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let mut counted = BytesMut::from(&sound[..]);
    counted[60] = 7;
    for bent in
        [flipped.freeze(), counted.freeze(), sound.slice(..sound.len() - 1), sound.slice(..10), Bytes::new()]
    {
        let refused = client.produce("t", bent).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidBatch, "{refused}");
    }
    assert_eq!(client.produce("t", sound).await.unwrap().first_lsn, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_told_by_the_code() {
    let root = tempfile::tempdir().unwrap();
    let mut config = quick_config(1, root.path());
    config.limits.max_record_bytes = 1000;
    config.limits.max_batch_bytes = 4000;
    let server = Server::start(config).await.unwrap();
    ready(&server).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    let record = "r".repeat(1001);
    assert_eq!(client.produce("t", batch(&[&record])).await.unwrap_err().code, ErrorCode::RecordTooLarge);
    let many = vec!["r".repeat(900); 5];
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(client.produce("t", batch(&many)).await.unwrap_err().code, ErrorCode::BatchTooLarge);
    client.produce("t", batch(&many[..4])).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_and_impossible_wishes_have_codes_of_their_own() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    assert_eq!(client.produce("nowhere", batch(&["a"])).await.unwrap_err().code, ErrorCode::UnknownTopic);
    client.create_topic("t", 1).await.unwrap();
    let bytes = batch(&["a"]);
    let item = lockstep_protocol::native::ProduceItem { partition: 1, ..produce_item("t", &bytes) };
    assert_eq!(client.produce_item(item, bytes).await.unwrap_err().code, ErrorCode::UnknownPartition);
    assert_eq!(client.create_topic("a/b", 1).await.unwrap_err().code, ErrorCode::InvalidTopicName);
    assert_eq!(client.create_topic("u", 0).await.unwrap_err().code, ErrorCode::InvalidPartitionCount);
    assert_eq!(client.create_topic("u", 1 << 20).await.unwrap_err().code, ErrorCode::InvalidPartitionCount);
    let subscribe =
        SubscribeRequest { topic: "t".into(), partition: 0, from_lsn: 1, credit_bytes: 0, max_push_bytes: 1 };
    assert_eq!(client.call(&subscribe).await.unwrap_err().code, ErrorCode::CreditExceeded);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payload_lengths_that_do_not_add_up_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    let bytes = batch(&["a"]);
    let item = lockstep_protocol::native::ProduceItem { batch_length: u32::MAX, ..produce_item("t", &bytes) };
    assert_eq!(client.produce_item(item, bytes.clone()).await.unwrap_err().code, ErrorCode::MalformedRequest);
    let with_payload = client.call_with(&ListTopicsRequest {}, vec![bytes]).await.0;
    assert_eq!(with_payload.unwrap_err().code, ErrorCode::MalformedRequest);
    assert!(Api::from_byte(200).is_none());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_and_a_hang_up_disturb_nobody() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut steady = Client::connect(server.addresses().native).await;
    let whole = request_frame(1);
    for length in 0..whole.len() {
        let mut client = Client::connect(server.addresses().native).await;
        client.send_bytes(&whole[..length]).await;
        drop(client);
    }
    steady.call(&ListTopicsRequest {}).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_byte_budget_slows_producers_down_and_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut config = quick_config(1, root.path());
    config.limits.max_record_bytes = 1 << 20;
    config.limits.max_batch_bytes = 1 << 20;
    config.limits.inflight_bytes = 4 << 20;
    let server = Server::start(config).await.unwrap();
    ready(&server).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    let value = "v".repeat(500_000);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (address, bytes) = (server.addresses().native, batch(&[&value]));
        tasks.spawn(async move { Client::connect(address).await.produce("t", bytes).await });
    }
    while let Some(produced) = tasks.join_next().await {
        produced.unwrap().unwrap();
    }
    assert_eq!(client.read_all("t", 20).await.len(), 20);
    assert_eq!(server.broker().inflight().held_bytes(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_not_answered_into_memory_and_disturbs_nobody() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut steady = Client::connect(server.addresses().native).await;
    steady.create_topic("t", 1).await.unwrap();
    let value = "v".repeat(1 << 20);
    steady.produce("t", batch(&[&value])).await.unwrap();
    let mut deaf = Client::connect(server.addresses().native).await;
    let item =
        lockstep_protocol::native::FetchItem { topic: "t".into(), partition: 0, from_lsn: 1, max_bytes: 1 };
    let fetch = lockstep_protocol::native::FetchRequest {
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: 1 << 20,
        items: vec![item],
    };
    let mut asked = Vec::new();
    for _ in 0..500 {
        asked.push(deaf.send(&fetch, Vec::new()).await);
    }
    for expected in 2..20 {
        assert_eq!(steady.produce("t", batch(&["next"])).await.unwrap().first_lsn, expected);
    }
    // It may change its mind: every answer is still to come.
    for correlation in asked {
        let (response, payload) = deaf.response::<lockstep_protocol::native::FetchRequest>(correlation).await;
        assert!(response.unwrap().items[0].is_ok() && payload.len() > 1 << 20);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_for_clients_that_read_nothing_is_counted_whole_and_bounded_for_the_node() {
    let root = tempfile::tempdir().unwrap();
    let mut config = quick_config(1, root.path());
    config.limits.max_record_bytes = 1 << 20;
    config.limits.max_batch_bytes = 1 << 20;
    config.limits.read_bytes = 8 << 20;
    let server = Server::start(config).await.unwrap();
    ready(&server).await;
    let mut steady = Client::connect(server.addresses().native).await;
    steady.create_topic("t", 1).await.unwrap();
    steady.produce("t", batch(&[&"v".repeat(1_000_000)])).await.unwrap();
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(server.addresses().native).await;
        for _ in 0..30 {
            let (topic, partition, from_lsn) = ("t".into(), 0, 1);
            let subscribe =
                SubscribeRequest { topic, partition, from_lsn, credit_bytes: 1, max_push_bytes: 1 };
            client.send(&subscribe, Vec::new()).await;
        }
        deaf.push(client);
    }
    // 120 MB are wanted: more than the sockets take in, so the budget fills up, to the last batch.
    let filled = async {
        while server.broker().reads().held_bytes() < 7 << 20 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, filled).await.expect("what is read is not counted");
    assert!(server.broker().reads().held_bytes() <= 8 << 20);
    drop(deaf);
    assert_eq!(steady.read_all("t", 1).await.len(), 1, "who reads is served again");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_many_unknown_topics_is_answered_after_one_wait_and_one_of_too_many_at_once() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    let unknown = produce_item("nowhere", &Bytes::new());
    let request = ProduceRequest { timeout_ms: 10_000, batches: vec![unknown.clone(); 4096] };
    let results = client.call(&request).await.unwrap().results;
    assert_eq!(results.len(), 4096);
    assert!(results.iter().all(|result| result.as_ref().unwrap_err().code == ErrorCode::UnknownTopic));
    let request = ProduceRequest { timeout_ms: 10_000, batches: vec![unknown; 4097] };
    assert_eq!(client.call(&request).await.unwrap_err().code, ErrorCode::MalformedRequest);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_stall_in_the_middle_of_long_frames_do_not_stop_the_others() {
    let root = tempfile::tempdir().unwrap();
    let mut config = quick_config(1, root.path());
    config.limits.max_frame_bytes = 2 << 20;
    config.limits.max_record_bytes = 1 << 20;
    config.limits.max_batch_bytes = 1 << 20;
    config.limits.inflight_bytes = 4 << 20;
    let server = Server::start(config).await.unwrap();
    ready(&server).await;
    let mut steady = Client::connect(server.addresses().native).await;
    steady.create_topic("t", 1).await.unwrap();
    let mut begun = request_frame(1);
    begun[..4].copy_from_slice(&(2u32 << 20).saturating_sub(4).to_le_bytes());
    begun[16..20].copy_from_slice(&8u32.to_le_bytes());
    let mut stalled = Vec::new();
    for _ in 0..9 {
        let mut client = Client::connect(server.addresses().native).await;
        client.send_bytes(&begun).await;
        stalled.push(client);
    }
    // Announced alone, a frame takes nothing: long ones still pass.
    steady.produce("t", batch(&[&"v".repeat(1_000_000)])).await.unwrap();
    assert_eq!(server.broker().inflight().held_bytes(), 0);
    for client in &mut stalled {
        client.send_bytes(&vec![0; 40 << 10]).await;
    }
    let held = async {
        while server.broker().inflight().held_bytes() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.unwrap();
    // Begun, they take half of the budget and no more.
    for lsn in 2..10 {
        assert_eq!(steady.produce("t", batch(&["short"])).await.unwrap().first_lsn, lsn);
    }
    assert_eq!(server.broker().inflight().held_bytes(), 2 << 20);
    drop(stalled);
    steady.produce("t", batch(&[&"v".repeat(1_000_000)])).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_above_the_limit_is_told_so_and_has_room_once_another_left() {
    let root = tempfile::tempdir().unwrap();
    let mut config = quick_config(1, root.path());
    config.limits.max_connections = 1;
    let server = Server::start(config).await.unwrap();
    ready(&server).await;
    let first = Client::connect(server.addresses().native).await;
    let mut second = Client::silent(server.addresses().native).await;
    assert_eq!(refusal(&mut second, u32::MAX).await.code, ErrorCode::Overloaded);
    assert!(second.frame(|_| true).await.is_none(), "the connection stayed open");
    drop(first);
    let admitted = async {
        loop {
            let mut third = Client::silent(server.addresses().native).await;
            third.send_bytes(&request_frame(9)).await;
            let answer = third.frame(|_| true).await.unwrap();
            if ErrorOutcome::decode(&answer.meta).unwrap().code == ErrorCode::HandshakeRequired {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, admitted).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_direction_still_gets_its_answers() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    client.create_topic("t", 1).await.unwrap();
    let mut asked = Vec::new();
    for _ in 0..20 {
        let bytes = batch(&["last words"]);
        let request = ProduceRequest { timeout_ms: 10_000, batches: vec![produce_item("t", &bytes)] };
        asked.push(client.send(&request, vec![bytes]).await);
    }
    client.half_close().await;
    for correlation in asked {
        let (response, _) = client.response::<ProduceRequest>(correlation).await;
        response.unwrap().results.remove(0).unwrap();
    }
    assert!(client.frame(|_| true).await.is_none(), "the connection stayed open");
    server.stop().await;
}
