//! What waits for one peer: bounded in bytes, dropped as a whole when the connection ends.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lockstep_protocol::EncodedFrame;
use lockstep_protocol::peer::{Heartbeat, Numbered, PeerMessage, RaftMessage, RepairMessage, WireEntry};
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

/// What waits for a peer.
pub enum Letter {
    /// Of consensus.
    Raft {
        /// The shard.
        shard: ShardId,
        /// Its messages, in order.
        messages: Vec<RaftMessage>,
    },
    /// Of repair.
    Repair {
        /// The shard.
        shard: ShardId,
        /// The question's number.
        number: u64,
        /// The question, or the answer.
        message: RepairMessage,
    },
    /// A question about the cluster.
    Question(Numbered),
}

impl Letter {
    /// How many messages it is.
    pub fn messages(&self) -> u64 {
        match self {
            Self::Raft { messages, .. } => messages.len() as u64,
            Self::Repair { .. } | Self::Question(_) => 1,
        }
    }

    fn weigh(&self) -> usize {
        match self {
            Self::Raft { messages, .. } => messages.iter().map(weigh).sum(),
            Self::Repair { message: RepairMessage::Entries { entries, .. }, .. } => {
                MESSAGE_BYTES + entries.iter().map(weigh_entry).sum::<usize>()
            }
            Self::Repair { message: RepairMessage::Checkpoint { checkpoint }, .. } => {
                MESSAGE_BYTES + checkpoint.len()
            }
            Self::Repair { .. } => MESSAGE_BYTES,
            Self::Question(asks) => MESSAGE_BYTES + asks.text.len(),
        }
    }
}

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
    letters: Vec<Letter>,
}

impl Queue {
    /// Queues a letter; `false` if there is no connection, or no room. A queue that is empty takes anything.
    pub(super) fn push(&self, letter: Letter) -> bool {
        let bytes = letter.weigh();
        {
            let mut waiting = self.lock();
            let fits = waiting.bytes == 0 || waiting.bytes + bytes <= QUEUE_BYTES_MAX;
            if !waiting.open || !fits {
                return false;
            }
            waiting.bytes += bytes;
            waiting.letters.push(letter);
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
        let count = dropped.letters.iter().map(Letter::messages).sum();
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
            let (bytes, letters) = {
                let mut waiting = self.lock();
                (std::mem::take(&mut waiting.bytes), std::mem::take(&mut waiting.letters))
            };
            if !letters.is_empty() {
                metrics::peer_queue_changed(-(bytes as i64));
                return to_frames(letters);
            }
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weigh(message: &RaftMessage) -> usize {
    let entries = message.entries.iter().map(weigh_entry);
    let snapshot = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.data.len());
    MESSAGE_BYTES + message.context.len() + snapshot + entries.sum::<usize>()
}

fn weigh_entry(entry: &WireEntry) -> usize {
    entry.envelope.len() + entry.body.len() + MESSAGE_BYTES / 2
}

/// All heartbeats in one frame, in front; then the rest in order, neighbours of one shard together. Heartbeats
/// overtake: Raft takes messages in any order.
pub fn to_frames(letters: Vec<Letter>) -> Vec<EncodedFrame> {
    let mut heartbeats = Vec::new();
    let mut frames = Vec::new();
    let mut together = Together::default();
    for letter in letters {
        let (shard, messages) = match letter {
            Letter::Raft { shard, messages } => (shard, messages),
            Letter::Repair { shard, number, message } => {
                together.flush(&mut frames);
                frames.push(PeerMessage::Repair { shard, number, message }.encode());
                continue;
            }
            Letter::Question(asks) => {
                frames.push(PeerMessage::Question(asks).encode());
                continue;
            }
        };
        for message in messages {
            let short =
                HEARTBEAT_KINDS.contains(&message.kind).then(|| Heartbeat::from_message(shard, &message));
            match short.flatten() {
                Some(heartbeat) => heartbeats.push(heartbeat),
                None => together.push(shard, message, &mut frames),
            }
        }
    }
    together.flush(&mut frames);
    if !heartbeats.is_empty() {
        frames.insert(0, PeerMessage::Heartbeats(heartbeats).encode());
    }
    frames
}

/// Messages of one shard that will share a frame.
#[derive(Default)]
struct Together {
    shard: ShardId,
    bytes: usize,
    messages: Vec<RaftMessage>,
}

impl Together {
    fn push(&mut self, shard: ShardId, message: RaftMessage, frames: &mut Vec<EncodedFrame>) {
        let bytes = weigh(&message);
        if shard != self.shard || self.bytes + bytes > FRAME_ENTRY_BYTES {
            self.flush(frames);
            self.shard = shard;
        }
        self.bytes += bytes;
        self.messages.push(message);
    }

    fn flush(&mut self, frames: &mut Vec<EncodedFrame>) {
        if !self.messages.is_empty() {
            let messages = std::mem::take(&mut self.messages);
            frames.push(PeerMessage::Raft { shard: self.shard, messages }.encode());
        }
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use lockstep_protocol::peer::PeerDecoder;

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
        let raft = |shard, messages| Letter::Raft { shard, messages };
        let mut messages: Vec<_> = (1..=100).map(|shard| raft(shard, beat(shard))).collect();
        messages.insert(50, raft(7, vec![message(3, 9, 10)]));
        let decoded = decode(&to_frames(messages));
        assert_eq!(decoded.len(), 2);
        assert!(matches!(&decoded[0], PeerMessage::Heartbeats(all) if all.len() == 100));
        assert!(matches!(&decoded[1], PeerMessage::Raft { shard: 7, messages } if messages.len() == 1));
    }

    #[test]
    fn neighbours_of_one_shard_share_a_frame_and_keep_their_order() {
        let messages = [
            (1, vec![message(3, 1, 5), message(3, 2, 5)]),
            (1, vec![message(3, 3, 5)]),
            (2, vec![message(3, 1, 5)]),
            (1, vec![message(3, 4, 5)]),
        ];
        let messages = messages.map(|(shard, messages)| Letter::Raft { shard, messages }).into();
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
        let letter = |index, bytes| Letter::Raft { shard: 1, messages: vec![message(3, index, bytes)] };
        let queue = Queue::default();
        assert!(!queue.push(letter(1, 10)));
        queue.open();
        assert!(queue.push(letter(1, QUEUE_BYTES_MAX + 1)), "an empty queue takes anything");
        assert!(!queue.push(letter(2, 10)));
        queue.close();
        assert!(!queue.is_open());
    }
}
