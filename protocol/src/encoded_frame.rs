//! Frames on their way out: the head in one piece, the payload by reference.

use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::{FRAME_HEADER_BYTES, FrameKind, PROTOCOL_VERSION, ReplyTo};
use crate::frame_lengths::{CHECKED_AT, META_LENGTH_BYTES, seal_head};
use crate::native::{Api, Message, Push, Request};
use crate::outcome::{ErrorOutcome, Outcome};
use crate::wire::Wire;

/// Enough for the head of most frames; longer ones grow.
const HEAD_BYTES_USUAL: usize = 128;

/// A frame ready for one vectored write: `head`, then each slice of `payload`, none of them copied.
///
/// A frame beyond the receiver's limit costs the connection: compare [`EncodedFrame::total_bytes`] first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFrame {
    /// Header and message.
    pub head: Bytes,
    /// Record batches, in the order of the message's lengths.
    pub payload: Vec<Bytes>,
}

impl EncodedFrame {
    /// A client's message. `payload` is empty except for a produce.
    #[must_use]
    pub fn request<M: Message>(correlation: u32, message: &M, payload: Vec<Bytes>) -> Self {
        let reply_to = ReplyTo { api: M::API as u8, correlation };
        Self::new(FrameKind::Request, reply_to, message, payload)
    }

    /// The answer to an `R`. `payload` is empty except for a fetch.
    #[must_use]
    pub fn response<R: Request>(
        correlation: u32,
        outcome: &Outcome<R::Response>,
        payload: Vec<Bytes>,
    ) -> Self {
        let reply_to = ReplyTo { api: R::API as u8, correlation };
        Self::new(FrameKind::Response, reply_to, outcome, payload)
    }

    /// The answer to a request that was refused, understood or not: every response type decodes it.
    #[must_use]
    pub fn refusal(reply_to: ReplyTo, error: &ErrorOutcome) -> Self {
        Self::new(FrameKind::Response, reply_to, error, Vec::new())
    }

    /// Records for the subscription that was opened under `correlation`, or why it ends.
    #[must_use]
    pub fn push(correlation: u32, push: &Outcome<Push>, payload: Vec<Bytes>) -> Self {
        Self::new(FrameKind::Push, ReplyTo { api: Api::Subscribe as u8, correlation }, push, payload)
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.head.len() + self.payload.iter().map(Bytes::len).sum::<usize>()
    }

    /// The whole frame in one piece: a copy, for tests and small frames.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.total_bytes());
        out.put_slice(&self.head);
        for slice in &self.payload {
            out.put_slice(slice);
        }
        out.freeze()
    }

    fn new(kind: FrameKind, reply_to: ReplyTo, message: &impl Wire, payload: Vec<Bytes>) -> Self {
        let mut head = BytesMut::with_capacity(HEAD_BYTES_USUAL);
        head.put_bytes(0, CHECKED_AT);
        head.put_u8(kind as u8);
        head.put_u8(reply_to.api);
        head.put_u16_le(PROTOCOL_VERSION);
        head.put_u32_le(reply_to.correlation);
        head.put_bytes(0, META_LENGTH_BYTES);
        message.encode(&mut head);
        Self { head: seal_head(head, FRAME_HEADER_BYTES, &payload), payload }
    }
}
