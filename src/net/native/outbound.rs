//! What is on its way to one client: a bounded queue and the task that writes it.

use std::time::Duration;

use lockstep_protocol::EncodedFrame;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;

use crate::broker::ByteLease;
use crate::net::vectored::write_frames;

/// Frames that may wait; whoever has more waits in turn.
const FRAMES_QUEUED_MAX: usize = 128;
/// How long a client may read nothing while something waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A frame, and the memory it counts against until it is written.
struct Outgoing {
    frame: EncodedFrame,
    lease: Option<ByteLease>,
}

/// The way to the client. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outbound {
    queue: mpsc::Sender<Outgoing>,
}

/// The client is gone: whoever works for it may stop.
#[derive(Debug)]
pub(super) struct Gone;

impl Outbound {
    /// A queue, and the task that empties it; the task ends when the connection breaks, or when all senders
    /// are gone and everything is written.
    pub(super) fn start(stream: OwnedWriteHalf) -> (Outbound, tokio::task::JoinHandle<()>) {
        let (queue, receiver) = mpsc::channel(FRAMES_QUEUED_MAX);
        (Outbound { queue }, tokio::spawn(write_all(stream, receiver)))
    }

    /// Queues a frame; waits while the queue is full.
    pub(super) async fn send(&self, frame: EncodedFrame, lease: Option<ByteLease>) -> Result<(), Gone> {
        self.queue.send(Outgoing { frame, lease }).await.map_err(|_| Gone)
    }
}

async fn write_all(mut stream: OwnedWriteHalf, mut queue: mpsc::Receiver<Outgoing>) {
    let mut waiting = Vec::with_capacity(FRAMES_QUEUED_MAX);
    while queue.recv_many(&mut waiting, FRAMES_QUEUED_MAX).await > 0 {
        let (frames, leases): (Vec<EncodedFrame>, Vec<Option<ByteLease>>) =
            waiting.drain(..).map(|outgoing| (outgoing.frame, outgoing.lease)).unzip();
        if let Err(error) = write_frames(&mut stream, &frames, PATIENCE).await {
            tracing::debug!(%error, "a client connection broke while it was written to");
            return;
        }
        drop(leases);
    }
}
