//! What waits for one peer: bounded in bytes, dropped as a whole when the connection ends.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lockstep_protocol::EncodedFrame;
use lockstep_protocol::peer::{Heartbeat, PeerMessage, RaftMessage};
use tokio::sync::Notify;

use crate::engine::ShardId;
use crate::metrics;

/// Bytes that may wait for one peer.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// About the most bytes of entries in one frame.
const FRAME_ENTRY_BYTES: usize = 4 << 20;
/// About what a message takes beside its entries.
const MESSAGE_BYTES: usize = 128;
/// raft-rs's numbers of `MsgHeartbeat` and `MsgHeartbeatResponse`.
const HEARTBEAT_KINDS: [u8; 2] = [8, 9];

/// A peer's queue.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    open: bool,
    bytes: usize,
    messages: Vec<(ShardId, Vec<RaftMessage>)>,
}

impl Queue {
    /// Queues messages; `false` if there is no connection, or no room. A queue that is empty takes anything.
    pub(super) fn push(&self, shard: ShardId, messages: Vec<RaftMessage>) -> bool {
        let bytes = messages.iter().map(weigh).sum::<usize>();
        {
            let mut waiting = self.lock();
            let fits = waiting.bytes == 0 || waiting.bytes + bytes <= QUEUE_BYTES_MAX;
            if !waiting.open || !fits {
                return false;
            }
            waiting.bytes += bytes;
            waiting.messages.push((shard, messages));
        }
        metrics::peer_queue_changed(bytes as i64);
        self.wake.notify_one();
        true
    }

    /// A connection is there: messages are taken from now on.
    pub(super) fn open(&self) {
        self.lock().open = true;
    }

    /// The connection is gone, and what waited for it too.
    pub(super) fn close(&self) {
        let dropped = std::mem::take(&mut *self.lock());
        let count = dropped.messages.iter().map(|(_, messages)| messages.len() as u64).sum();
        metrics::peer_queue_changed(-(dropped.bytes as i64));
        metrics::peer_messages_dropped(count);
    }

    /// Whether there is a connection.
    pub(super) fn is_open(&self) -> bool {
        self.lock().open
    }

    /// All that waits, as frames; waits for something first.
    pub(super) async fn take(&self) -> Vec<EncodedFrame> {
        loop {
            let (bytes, messages) = {
                let mut waiting = self.lock();
                (std::mem::take(&mut waiting.bytes), std::mem::take(&mut waiting.messages))
            };
            if !messages.is_empty() {
                metrics::peer_queue_changed(-(bytes as i64));
                return to_frames(messages);
            }
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weigh(message: &RaftMessage) -> usize {
    let entries =
        message.entries.iter().map(|entry| entry.envelope.len() + entry.body.len() + MESSAGE_BYTES / 2);
    let snapshot = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.data.len());
    MESSAGE_BYTES + message.context.len() + snapshot + entries.sum::<usize>()
}

/// All heartbeats in one frame, in front; then the rest in order, neighbours of one shard together. Heartbeats
/// overtake: Raft takes messages in any order.
fn to_frames(messages: Vec<(ShardId, Vec<RaftMessage>)>) -> Vec<EncodedFrame> {
    let mut heartbeats = Vec::new();
    let mut frames = Vec::new();
    let mut together: Vec<RaftMessage> = Vec::new();
    let (mut shard_together, mut bytes) = (0, 0);
    let mut flush = |shard: ShardId, messages: &mut Vec<RaftMessage>| {
        if !messages.is_empty() {
            frames.push(PeerMessage::Raft { shard, messages: std::mem::take(messages) }.encode());
        }
    };
    for (shard, message) in
        messages.into_iter().flat_map(|(shard, all)| all.into_iter().map(move |one| (shard, one)))
    {
        let short = HEARTBEAT_KINDS.contains(&message.kind).then(|| Heartbeat::from_message(shard, &message));
        if let Some(Some(heartbeat)) = short {
            heartbeats.push(heartbeat);
            continue;
        }
        let weight = weigh(&message);
        if shard != shard_together || bytes + weight > FRAME_ENTRY_BYTES {
            flush(shard_together, &mut together);
            (shard_together, bytes) = (shard, 0);
        }
        bytes += weight;
        together.push(message);
    }
    flush(shard_together, &mut together);
    if !heartbeats.is_empty() {
        frames.insert(0, PeerMessage::Heartbeats(heartbeats).encode());
    }
    frames
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use lockstep_protocol::peer::{PeerDecoder, WireEntry};

    use super::*;

    fn message(kind: u8, index: u64, body_bytes: usize) -> RaftMessage {
        let entry = WireEntry {
            index,
            envelope: Bytes::from_static(&[1; 48]),
            body: Bytes::from(vec![0; body_bytes]),
            ..WireEntry::default()
        };
        let entries = if body_bytes == 0 { Vec::new() } else { vec![entry] };
        RaftMessage { kind, from: 1, to: 2, term: 3, index, entries, ..RaftMessage::default() }
    }

    fn decode(frames: &[EncodedFrame]) -> Vec<PeerMessage> {
        let mut bytes: BytesMut = frames.iter().flat_map(|frame| frame.to_bytes()).collect();
        let mut decoder = PeerDecoder::new(super::super::FRAME_BYTES_MAX);
        std::iter::from_fn(|| decoder.decode(&mut bytes).unwrap()).collect()
    }

    #[test]
    fn heartbeats_of_all_shards_travel_in_one_frame() {
        let beat =
            |_| vec![RaftMessage { kind: 8, from: 1, to: 2, term: 3, commit: 4, ..RaftMessage::default() }];
        let mut messages: Vec<_> = (1..=100).map(|shard| (shard, beat(shard))).collect();
        messages.insert(50, (7, vec![message(3, 9, 10)]));
        let decoded = decode(&to_frames(messages));
        assert_eq!(decoded.len(), 2);
        assert!(matches!(&decoded[0], PeerMessage::Heartbeats(all) if all.len() == 100));
        assert!(matches!(&decoded[1], PeerMessage::Raft { shard: 7, messages } if messages.len() == 1));
    }

    #[test]
    fn neighbours_of_one_shard_share_a_frame_and_keep_their_order() {
        let messages = vec![
            (1, vec![message(3, 1, 5), message(3, 2, 5)]),
            (1, vec![message(3, 3, 5)]),
            (2, vec![message(3, 1, 5)]),
            (1, vec![message(3, 4, 5)]),
        ];
        let indexes = |message: PeerMessage| match message {
            PeerMessage::Raft { shard, messages } => {
                (shard, messages.iter().map(|message| message.index).collect())
            }
            other => panic!("{other:?}"),
        };
        let decoded: Vec<(u64, Vec<u64>)> = decode(&to_frames(messages)).into_iter().map(indexes).collect();
        assert_eq!(decoded, [(1, vec![1, 2, 3]), (2, vec![1]), (1, vec![4])]);
    }

    #[test]
    fn a_queue_without_connection_or_room_drops() {
        let queue = Queue::default();
        assert!(!queue.push(1, vec![message(3, 1, 10)]));
        queue.open();
        assert!(queue.push(1, vec![message(3, 1, QUEUE_BYTES_MAX + 1)]), "an empty queue takes anything");
        assert!(!queue.push(1, vec![message(3, 2, 10)]));
        queue.close();
        assert!(!queue.is_open());
    }
}
