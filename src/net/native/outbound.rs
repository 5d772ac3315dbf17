//! What is on its way to one client: a bounded queue, and the task that writes it.
//!
//! Who alone works for the client writes by itself what the socket takes at once: a thousand subscribers, each with a
//! connection, then need no thousand tasks more for each record. Where several do, their frames go through the queue, so that
//! those that come together leave together.

use std::io::{ErrorKind, IoSlice, Result as IoResult};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lockstep_protocol::EncodedFrame;
use tokio::io::AsyncWrite;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;

use crate::broker::ByteLease;
use crate::net::vectored::{slices, write_slices};

/// Frames that may wait; whoever has more waits in turn.
const FRAMES_QUEUED_MAX: usize = 128;
/// How long a client may read nothing while something waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Copies of a line where one alone works for its client: that one's, the connection's, and that of the task that writes.
const COPIES_OF_ONE: usize = 3;

/// A frame, how much of it is written, and the memory it counts against until it all is.
struct Outgoing {
    frame: EncodedFrame,
    written: usize,
    _lease: Option<ByteLease>,
}

/// The way to the client. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outbound {
    line: Arc<Line>,
    queue: mpsc::Sender<Outgoing>,
}

/// Where frames are written.
struct Line {
    stream: OwnedWriteHalf,
    /// Frames that were queued and are not written yet. Those are the writing task's; whoever else writes has this locked, at 0.
    queued: Mutex<usize>,
}

/// The client is gone: whoever works for it may stop.
#[derive(Debug)]
pub(super) struct Gone;

impl Outbound {
    /// A queue, and the task that empties it; the task ends when the connection breaks, or when all senders
    /// are gone and everything is written.
    pub(super) fn start(stream: OwnedWriteHalf) -> (Outbound, tokio::task::JoinHandle<()>) {
        let line = Arc::new(Line { stream, queued: Mutex::new(0) });
        let (queue, receiver) = mpsc::channel(FRAMES_QUEUED_MAX);
        let writer = tokio::spawn(write_all(Arc::clone(&line), receiver));
        (Outbound { line, queue }, writer)
    }

    /// Writes a frame, or queues it; waits while the queue is full.
    pub(super) async fn send(&self, frame: EncodedFrame, lease: Option<ByteLease>) -> Result<(), Gone> {
        let place = self.queue.reserve().await.map_err(|_| Gone)?;
        let mut queued = self.line.queued.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alone = Arc::strong_count(&self.line) <= COPIES_OF_ONE;
        let written = if is_alone && *queued == 0 { self.line.write_now(&frame) } else { 0 };
        if written < frame.total_bytes() {
            *queued += 1;
            place.send(Outgoing { frame, written, _lease: lease });
        }
        Ok(())
    }
}

impl Line {
    /// Writes as much as the socket takes at once. That it is broken is found by the task that writes the rest.
    fn write_now(&self, frame: &EncodedFrame) -> usize {
        self.stream.try_write_vectored(&slices([frame])).unwrap_or(0)
    }

    fn written(&self, frames: usize) {
        *self.queued.lock().unwrap_or_else(PoisonError::into_inner) -= frames;
    }
}

/// The stream as the one task writes to it that may wait for it.
struct Rest<'a>(&'a OwnedWriteHalf);

impl AsyncWrite for Rest<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<IoResult<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<IoResult<usize>> {
        loop {
            ready!(self.0.as_ref().poll_write_ready(context))?;
            match self.0.try_write_vectored(slices) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<IoResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<IoResult<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn write_all(line: Arc<Line>, mut queue: mpsc::Receiver<Outgoing>) {
    let mut waiting = Vec::with_capacity(FRAMES_QUEUED_MAX);
    while queue.recv_many(&mut waiting, FRAMES_QUEUED_MAX).await > 0 {
        let mut slices = slices(waiting.iter().map(|outgoing: &Outgoing| &outgoing.frame));
        let mut rest = &mut slices[..];
        // Only the first may have been begun: others find it in the queue.
        IoSlice::advance_slices(&mut rest, waiting[0].written);
        if let Err(error) = write_slices(&mut Rest(&line.stream), rest, PATIENCE).await {
            tracing::debug!(%error, "a client connection broke while it was written to");
            return;
        }
        line.written(waiting.len());
        waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use bytes::{Buf, Bytes};
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    use super::*;

    /// Frames that say whose they are and how many that one had sent before: more than any socket takes at once.
    const FRAMES: u32 = 3_000;
    const FRAME_BYTES: usize = 4_096;

    fn frame(of: u32, number: u32) -> EncodedFrame {
        let head = [of.to_le_bytes(), number.to_le_bytes()].concat();
        EncodedFrame { head: head.into(), payload: vec![Bytes::from(vec![number as u8; FRAME_BYTES - 8])] }
    }

    async fn line() -> (Outbound, JoinHandle<()>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (outbound, writer) = Outbound::start(listener.accept().await.unwrap().0.into_split().1);
        (outbound, writer, client)
    }

    fn send(outbound: Outbound, of: u32, numbers: Range<u32>) -> JoinHandle<()> {
        tokio::spawn(async move {
            for number in numbers {
                outbound.send(frame(of, number), None).await.unwrap();
            }
        })
    }

    /// Reads to the end; returns how many whole frames came of each sender, in its order.
    async fn read_all(mut client: TcpStream) -> [u32; 2] {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes.len() % FRAME_BYTES, 0);
        let mut counts = [0; 2];
        for mut piece in bytes.chunks(FRAME_BYTES) {
            let (of, number) = (piece.get_u32_le() as usize, piece.get_u32_le());
            assert_eq!(number, counts[of], "frames of {of} in order");
            assert!(piece.iter().all(|byte| *byte == number as u8), "frame {number} of {of} is whole");
            counts[of] += 1;
        }
        counts
    }

    #[tokio::test]
    async fn who_is_alone_writes_at_once_and_what_the_socket_does_not_take_follows_in_order() {
        let (outbound, writer, client) = line().await;
        // As the connection keeps one.
        let kept = outbound.clone();
        outbound.send(frame(0, 0), None).await.unwrap();
        assert_eq!(*kept.line.queued.lock().unwrap(), 0, "the first one went out at once");
        let sent = send(outbound, 0, 1..FRAMES);
        let read = tokio::spawn(read_all(client));
        sent.await.unwrap();
        drop(kept);
        writer.await.unwrap();
        assert_eq!(read.await.unwrap(), [FRAMES, 0]);
    }

    #[tokio::test]
    async fn frames_of_several_senders_are_not_mixed_while_they_come_and_go() {
        let (outbound, writer, client) = line().await;
        let first = send(outbound.clone(), 0, 0..FRAMES);
        let second = send(outbound, 1, 0..FRAMES);
        let read = tokio::spawn(read_all(client));
        first.await.unwrap();
        second.await.unwrap();
        writer.await.unwrap();
        assert_eq!(read.await.unwrap(), [FRAMES, FRAMES]);
    }

    #[tokio::test]
    async fn who_sends_to_a_client_that_is_gone_is_told() {
        let (outbound, writer, client) = line().await;
        drop(client);
        while outbound.send(frame(0, 0), None).await.is_ok() {
            tokio::task::yield_now().await;
        }
        writer.await.unwrap();
    }
}
