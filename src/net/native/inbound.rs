//! Cutting a client's bytes into frames, within the node's byte budget.
//!
//! What holds:
//! - A frame that does not fit the small first buffer takes its bytes from the budget, once that buffer is full:
//!   a client that announces much and sends little makes nobody hold anything.
//! - Frames that are not whole yet take half of the budget at the most: however many clients stall in the middle
//!   of one, requests that are here are served.
//! - A frame has one time limit, from its first byte to its last, apart from waiting for the budget.
//! - A client that has not said hello takes nothing from the budget at all.

use std::time::Duration;

use bytes::BytesMut;
use lockstep_protocol::{Frame, FrameDecoder, FrameError};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, timeout, timeout_at};

use crate::broker::{ByteBudget, ByteLease};
use crate::metrics;

/// Bytes read without asking the budget.
const BUFFER_BYTES: usize = 32 << 10;
/// Longest frame of a client that has not said hello.
const FIRST_FRAMES_BYTES_MAX: usize = BUFFER_BYTES;
/// How long a frame may take from its first byte to its last.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a frame's length field.
const LENGTH_BYTES: usize = 4;

/// A frame, and the memory it counts against.
pub(super) struct Received {
    pub(super) frame: Frame,
    pub(super) lease: Option<ByteLease>,
}

/// What came instead of a frame.
pub(super) enum Refused {
    /// The frame was at fault.
    Frame(FrameError),
    /// The client is gone, or stalled in the middle of a frame.
    Closed,
}

/// The reading half of a client's connection.
pub(super) struct Inbound {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    decoder: FrameDecoder,
    frame_bytes_max: usize,
    /// The part of the budget for frames that are not whole yet.
    unfinished: ByteBudget,
}

impl Inbound {
    pub(super) fn new(stream: OwnedReadHalf, frame_bytes_max: usize, unfinished: ByteBudget) -> Inbound {
        let buffer = BytesMut::with_capacity(BUFFER_BYTES);
        let decoder = FrameDecoder::new(frame_bytes_max.min(FIRST_FRAMES_BYTES_MAX));
        Inbound { stream, buffer, decoder, frame_bytes_max, unfinished }
    }

    /// The client has said hello: from now on frames may be as long as it was told.
    pub(super) fn greeted(&mut self) {
        self.decoder = FrameDecoder::new(self.frame_bytes_max);
    }

    /// The next frame. After [`Refused::Frame`] with someone to answer, the stream goes on behind it.
    pub(super) async fn next(&mut self) -> Result<Received, Refused> {
        let mut lease: Option<ByteLease> = None;
        let mut deadline = (!self.buffer.is_empty()).then(|| Instant::now() + FRAME_TIMEOUT);
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).map_err(Refused::Frame)? {
                return Ok(Received { frame, lease: lease.map(ByteLease::into_whole) });
            }
            // The decoder has checked the length against the limit, or there is none yet.
            let missing = self.announced_bytes().saturating_sub(self.buffer.len());
            if missing > 0 && self.buffer.len() >= BUFFER_BYTES && lease.is_none() {
                let asked = Instant::now();
                lease = Some(lend(&self.unfinished, self.announced_bytes()).await);
                deadline = deadline.map(|deadline| deadline + asked.elapsed());
            }
            match lease {
                Some(_) => self.buffer.reserve(missing),
                None => self.buffer.reserve(missing.clamp(LENGTH_BYTES, BUFFER_BYTES / 4)),
            }
            self.fill(deadline).await?;
            deadline.get_or_insert_with(|| Instant::now() + FRAME_TIMEOUT);
        }
    }

    /// Takes and forgets what still comes, for a moment: closing a socket with unread bytes would reset it,
    /// and take the answer in flight with it.
    pub(super) async fn drain(&mut self, moment: Duration) {
        let _ = timeout(moment, async {
            loop {
                self.buffer.clear();
                if self.fill(None).await.is_err() {
                    return;
                }
            }
        })
        .await;
    }

    /// Bytes of the frame at the front, its length field included; 0 if that is not here yet.
    fn announced_bytes(&self) -> usize {
        match self.buffer.first_chunk::<LENGTH_BYTES>() {
            Some(length) => u32::from_le_bytes(*length) as usize + LENGTH_BYTES,
            None => 0,
        }
    }

    async fn fill(&mut self, deadline: Option<Instant>) -> Result<(), Refused> {
        let read = self.stream.read_buf(&mut self.buffer);
        let count = match deadline {
            None => read.await,
            Some(deadline) => timeout_at(deadline, read).await.map_err(|_| Refused::Closed)?,
        };
        match count {
            Ok(0) | Err(_) => Err(Refused::Closed),
            Ok(_) => Ok(()),
        }
    }
}

/// Waits for room in the budget, and counts the waiting.
pub(super) async fn lend(budget: &ByteBudget, bytes: usize) -> ByteLease {
    let lease = match budget.try_acquire(bytes) {
        Some(lease) => lease,
        None => {
            metrics::inflight_waited();
            budget.acquire(bytes).await
        }
    };
    metrics::inflight(budget.held_bytes(), budget.total_bytes());
    lease
}
