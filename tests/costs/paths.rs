//! The way of a record through a broker, step by step in one thread: what a cost is counted over.
//!
//! Everything is production's but the disks, which are simulated, and the network, which is a list. Each way does the same
//! every time it is gone, so that what it costs can be compared with what it cost before.

use bytes::{Bytes, BytesMut};
use lockstep::shard::{Answer, Append};
use lockstep_protocol::batch::BatchHeader;
use lockstep_protocol::batch_builder::{BatchBuilder, ProducerSequence};
use lockstep_protocol::native::{FetchRequest, FetchResponse, Fetched, ProduceItem, ProduceRequest};
use lockstep_protocol::record::Record;
use lockstep_protocol::validate::{ValidationLimits, validate};
use lockstep_protocol::{EncodedFrame, FrameDecoder, Wire};
use lockstep_storage::{CachedRead, GroupOutcome, WriteGroup};

use crate::cluster::Cluster;

const FRAME_BYTES_MAX: usize = 8 << 20;
const LEADER: u64 = 1;
/// Turns before anything is counted: buffers have grown, and a segment is open.
const WARM_UP: usize = 20;

/// A way that can be gone again and again.
pub struct Path {
    /// What it is called in the baselines.
    pub name: &'static str,
    /// Batches that pass at each turn.
    pub batches: u64,
    /// Bytes of those batches.
    pub bytes: u64,
    cluster: Cluster,
    turn: fn(&mut Cluster, &[Bytes]),
    frames: Vec<Bytes>,
}

impl Path {
    /// All of them, ready to be gone.
    pub fn all() -> Vec<Path> {
        vec![
            Path::new("produce 1 record of 2 KiB", 1, 1, 2048, produce),
            Path::new("produce 32 batches of 1 record of 2 KiB at once", 32, 1, 2048, produce),
            Path::new("produce 1 batch of 256 records of 1 KiB", 1, 256, 1024, produce),
            Path::new("fetch 32 batches of 1 record of 2 KiB from memory", 32, 1, 2048, fetch_cached),
            Path::new("fetch 1 batch of 256 records of 1 KiB from memory", 1, 256, 1024, fetch_cached),
            Path::new("fetch 1 batch of 256 records of 1 KiB from segments", 1, 256, 1024, fetch_stored),
        ]
    }

    fn new(
        name: &'static str,
        batches: usize,
        records: usize,
        record_bytes: usize,
        turn: fn(&mut Cluster, &[Bytes]),
    ) -> Path {
        let mut cluster = Cluster::with_segments(3, 64 << 20);
        // As in production, a log is not at rest at the first tick: what was written last stays in memory.
        cluster.seal_ticks = 20;
        cluster.restart_all();
        cluster.elect(LEADER);
        let batch = batch(records, record_bytes);
        let frames = (0..batches).map(|number| produce_frame(number, &batch)).collect();
        let mut path = Path {
            name,
            batches: batches as u64,
            bytes: (batches * batch.len()) as u64,
            cluster,
            turn,
            frames,
        };
        // What is fetched was produced before.
        produce(&mut path.cluster, &path.frames);
        (0..WARM_UP).for_each(|_| turn(&mut path.cluster, &path.frames));
        // From here on the leader is a busy one.
        path.cluster.tick_all();
        path
    }

    /// Goes the way once. Not inlined: it is what callgrind counts.
    #[inline(never)]
    pub fn go(&mut self) {
        (self.turn)(&mut self.cluster, &self.frames);
    }

    /// Runs what a disk does in another way: so that the simulated disk's own doings are not counted.
    pub fn write_with(&mut self, write: fn(WriteGroup) -> GroupOutcome) {
        self.cluster.write_with = write;
    }

    /// Messages between the three since this was asked last: each is written to a socket and read from it.
    pub fn take_messages(&mut self) -> u64 {
        self.cluster.take_messages_sent() as u64
    }

    /// What the three disks have done so far.
    pub fn disk_work(&self) -> DiskWork {
        let counters = (1..=3).map(|node| self.cluster.disk(node).counters());
        counters.fold(DiskWork::default(), |sum, counters| DiskWork {
            writes: sum.writes + counters.writes,
            written_bytes: sum.written_bytes + counters.written_bytes,
            syncs: sum.syncs + counters.file_syncs + counters.directory_syncs,
            reads: sum.reads + counters.reads,
        })
    }
}

/// What disks did.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskWork {
    pub writes: u64,
    pub written_bytes: u64,
    pub syncs: u64,
    pub reads: u64,
}

/// From the bytes of requests to the acknowledgements, on all three replicas: what came in together is one group.
fn produce(cluster: &mut Cluster, frames: &[Bytes]) {
    let tokens = cluster.append_at_once(LEADER, frames.iter().map(received).collect());
    while cluster.deliver_one() {}
    for token in tokens {
        assert!(matches!(cluster.answer(token), Some(Ok(Answer::Appended(_)))), "it is acknowledged");
    }
}

/// A request that has come in, as the broker hands it to its shard.
fn received(frame: &Bytes) -> Append {
    let mut socket = BytesMut::from(&frame[..]);
    let frame = FrameDecoder::new(FRAME_BYTES_MAX).decode(&mut socket).expect("a frame").expect("whole");
    let request = ProduceRequest::decode(&frame.meta).expect("a request");
    let batch = request.split_payload(&frame.payload).expect("a batch").remove(0);
    let header = validate(&batch, &ValidationLimits::default()).expect("a valid batch").header;
    Append { batch, header, expected_next_lsn: None, fence: None, position: None }
}

fn fetch_cached(cluster: &mut Cluster, frames: &[Bytes]) {
    let reader = cluster.reader(LEADER);
    let CachedRead::Hit(batches) = reader.cached(1, FRAME_BYTES_MAX, u64::MAX) else {
        panic!("what was written last is in memory");
    };
    assert_eq!(batches.len(), frames.len(), "what was produced is found");
    answered(batches.into_iter().map(|batch| batch.bytes).collect());
}

fn fetch_stored(cluster: &mut Cluster, frames: &[Bytes]) {
    let batches = cluster.reader(LEADER).read(1, FRAME_BYTES_MAX, u64::MAX).expect("it is stored");
    assert_eq!(batches.len(), frames.len(), "what was produced is found");
    answered(batches.into_iter().map(|batch| batch.bytes).collect());
}

/// The answer to a fetch, as it is handed to the socket.
fn answered(payload: Vec<Bytes>) {
    let bytes: usize = payload.iter().map(Bytes::len).sum();
    let fetched = Fetched {
        log_start: 1,
        high_watermark: 1,
        first_lsn: 1,
        payload_length: u32::try_from(bytes).expect("few bytes"),
    };
    let response = FetchResponse { items: vec![Ok(fetched)] };
    let frame = EncodedFrame::response::<FetchRequest>(1, &Ok(response), payload);
    assert!(frame.total_bytes() > bytes, "the answer holds the batches");
}

fn batch(records: usize, record_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    for _ in 0..records {
        builder.push(&Record::new(1_000, vec![b'x'; record_bytes])).expect("it fits");
    }
    let batch = builder.build(ProducerSequence::NONE).expect("there are records");
    BatchHeader::parse(&batch).expect("a built batch has a header");
    batch
}

fn produce_frame(number: usize, batch: &Bytes) -> Bytes {
    let item = ProduceItem {
        topic: "orders".into(),
        partition: 0,
        expected_next_lsn: None,
        fence: None,
        position: None,
        batch_length: u32::try_from(batch.len()).expect("few bytes"),
    };
    let request = ProduceRequest { timeout_ms: 1_000, batches: vec![item] };
    EncodedFrame::request(u32::try_from(number).expect("few"), &request, vec![batch.clone()]).to_bytes()
}
