//! The connection this node dials to another, and keeps.

use std::sync::Arc;
use std::time::Duration;

use lockstep_protocol::peer::PeerMessage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::handshake::{FrameReader, PeerError, introduce};
use super::queue::Queue;
use super::{KEEPALIVE, SILENCE_MAX};
use crate::identity::DataDirectory;
use crate::metrics;
use crate::net::vectored::write_frames;
use crate::random::Random;

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The first pause between attempts, in milliseconds; it doubles up to the last.
const PAUSE_MS_FIRST: u64 = 50;
/// The longest pause between attempts, in milliseconds.
const PAUSE_MS_LAST: u64 = 1000;

/// The way to one other node.
pub(super) struct Link {
    pub(super) node: u64,
    pub(super) address: String,
    pub(super) queue: Queue,
    /// The node is known to be up: dial without waiting.
    pub(super) dial_now: Notify,
}

impl Link {
    pub(super) fn new(node: u64, address: String) -> Link {
        Link { node, address, queue: Queue::default(), dial_now: Notify::new() }
    }
}

/// Closes the queue however the connection ends.
struct Connected<'a>(&'a Queue);

impl<'a> Connected<'a> {
    fn new(queue: &'a Queue) -> Connected<'a> {
        queue.open();
        metrics::peer_connected();
        Connected(queue)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.close();
        metrics::peer_disconnected();
    }
}

/// Dials the node, sends what is queued for it, and dials again, for ever.
pub(super) async fn keep_connected(link: Arc<Link>, directory: Arc<DataDirectory>, mut random: Random) {
    let mut pause_ms = PAUSE_MS_FIRST;
    let mut said = String::new();
    loop {
        match dial(&link, &directory).await {
            Ok(stream) => {
                tracing::info!(node = link.node, address = link.address, "connected to a peer");
                (pause_ms, said) = (PAUSE_MS_FIRST, String::new());
                let error = converse(&link, stream).await;
                tracing::info!(node = link.node, %error, "the connection to a peer ended");
            }
            Err(error) => {
                // Once per reason: a peer may be away for days.
                let why = error.to_string();
                if why != said {
                    tracing::warn!(
                        node = link.node,
                        address = link.address,
                        why,
                        "cannot connect to a peer; trying on"
                    );
                    said = why;
                }
            }
        }
        let jittered = Duration::from_millis(pause_ms / 2 + random.below(pause_ms));
        let _ = timeout(jittered, link.dial_now.notified()).await;
        pause_ms = (pause_ms * 2).min(PAUSE_MS_LAST);
    }
}

async fn dial(link: &Link, directory: &Arc<DataDirectory>) -> Result<FrameReader<TcpStream>, PeerError> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(&link.address))
        .await
        .map_err(|_| PeerError::Silent)??;
    stream.set_nodelay(true)?;
    let mut stream = FrameReader::new(stream);
    introduce(&mut stream, link.node, directory).await?;
    stream.trust();
    Ok(stream)
}

/// Sends until the connection ends, and says why it did.
async fn converse(link: &Link, stream: FrameReader<TcpStream>) -> PeerError {
    let (reader, mut write) = stream.split();
    let _connected = Connected::new(&link.queue);
    tokio::select! {
        error = listen(reader) => error,
        error = speak(link, &mut write) => error,
    }
}

/// The other side says nothing here but that it is alive.
async fn listen(mut reader: FrameReader<impl AsyncRead + Unpin>) -> PeerError {
    loop {
        match reader.next(SILENCE_MAX).await {
            Ok((PeerMessage::Heartbeats(beats), _)) if beats.is_empty() => {}
            Ok(_) => return PeerError::OutOfTurn,
            Err(error) => return error,
        }
    }
}

async fn speak(link: &Link, write: &mut (impl AsyncWrite + Unpin)) -> PeerError {
    loop {
        let frames = match timeout(KEEPALIVE, link.queue.take()).await {
            Ok(frames) => frames,
            Err(_) => vec![PeerMessage::Heartbeats(Vec::new()).encode()],
        };
        match write_frames(write, &frames, SILENCE_MAX).await {
            Ok(bytes) => metrics::peer_sent(bytes),
            Err(error) => return error.into(),
        }
    }
}
