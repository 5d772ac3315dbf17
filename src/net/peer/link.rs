//! The connection this node dials to another, and keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lockstep_protocol::peer::{Numbered, PeerMessage};
use lockstep_protocol::{ErrorCode, ErrorOutcome};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::handshake::{FrameReader, PeerError, introduce};
use super::queue::{Letter, Queue};
use super::{KEEPALIVE, SILENCE_MAX};
use crate::cluster::Roster;
use crate::engine::Engine;
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
    /// Where it may be reached, the likeliest first: tried in turn.
    addresses: Mutex<Vec<String>>,
    pub(super) queue: Queue,
    /// The node is known to be up: dial without waiting.
    pub(super) dial_now: Notify,
    questions: Mutex<Questions>,
}

/// Questions that were put to the node and are not answered yet.
#[derive(Default)]
struct Questions {
    last_number: u64,
    open: BTreeMap<u64, oneshot::Sender<Bytes>>,
}

impl Link {
    pub(super) fn new(node: u64, addresses: Vec<String>) -> Link {
        Link {
            node,
            addresses: Mutex::new(addresses),
            queue: Queue::default(),
            dial_now: Notify::new(),
            questions: Mutex::default(),
        }
    }

    /// Takes note of where else the node may be reached; false if the likeliest address is another one now.
    pub(super) fn takes(&self, addresses: &[String]) -> bool {
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let stays = known.first() == addresses.first();
        if stays && *known != addresses {
            *known = addresses.to_vec();
        }
        stays
    }

    /// Where to dial after so many attempts that failed.
    fn address(&self, attempts: usize) -> String {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(attempts % addresses.len().max(1)).cloned().unwrap_or_default()
    }

    /// Puts a question to the node; nothing if there is no connection, or no room.
    pub(super) fn ask(&self, text: Bytes) -> Option<oneshot::Receiver<Bytes>> {
        let mut questions = self.questions();
        // Whoever no longer waits needs no answer.
        questions.open.retain(|_, asker| !asker.is_closed());
        questions.last_number += 1;
        let number = questions.last_number;
        if !self.queue.push(Letter::Question(Numbered { number, text })) {
            return None;
        }
        let (asker, answer) = oneshot::channel();
        questions.open.insert(number, asker);
        Some(answer)
    }

    fn answered(&self, answer: Numbered) {
        if let Some(asker) = self.questions().open.remove(&answer.number) {
            let _ = asker.send(answer.text);
        }
    }

    fn questions(&self) -> std::sync::MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the queue however the connection ends, and lets whoever waits for an answer know.
struct Connected<'a>(&'a Link);

impl<'a> Connected<'a> {
    fn new(link: &'a Link) -> Connected<'a> {
        link.queue.open();
        metrics::peer_connected();
        Connected(link)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        // One lock for both: no question is left behind between the two.
        let mut questions = self.0.questions();
        self.0.queue.close();
        questions.open.clear();
        metrics::peer_disconnected();
    }
}

/// Dials the node, sends what is queued for it, and dials again, for ever.
pub(super) async fn keep_connected(
    link: Arc<Link>,
    roster: Arc<Roster>,
    engine: Engine,
    directory: Arc<DataDirectory>,
    mut random: Random,
) {
    let mut pause_ms = PAUSE_MS_FIRST;
    let mut said = BTreeSet::new();
    let mut attempts = 0;
    loop {
        let address = link.address(attempts);
        match dial(&address, &link, &roster, &directory).await {
            Ok(stream) => {
                tracing::info!(node = link.node, address, "connected to a peer");
                (pause_ms, attempts) = (PAUSE_MS_FIRST, 0);
                said.clear();
                let error = converse(&link, &engine, stream).await;
                tracing::info!(node = link.node, %error, "the connection to a peer ended");
            }
            Err(PeerError::Refused(ErrorOutcome { code: ErrorCode::BrokerRemoved, message, .. })) => {
                return roster.expel(message);
            }
            Err(error) => {
                attempts += 1;
                // Once per reason: a peer may be away for days.
                let why = error.to_string();
                if said.insert((address.clone(), why.clone())) {
                    tracing::warn!(node = link.node, address, why, "cannot connect to a peer; trying on");
                }
            }
        }
        let jittered = Duration::from_millis(pause_ms / 2 + random.below(pause_ms));
        let _ = timeout(jittered, link.dial_now.notified()).await;
        pause_ms = (pause_ms * 2).min(PAUSE_MS_LAST);
    }
}

async fn dial(
    address: &str,
    link: &Link,
    roster: &Roster,
    directory: &Arc<DataDirectory>,
) -> Result<FrameReader<TcpStream>, PeerError> {
    let stream =
        timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.map_err(|_| PeerError::Silent)??;
    stream.set_nodelay(true)?;
    let mut stream = FrameReader::new(stream);
    introduce(&mut stream, link.node, roster, directory).await?;
    stream.trust();
    Ok(stream)
}

/// Sends until the connection ends, and says why it did.
async fn converse(link: &Link, engine: &Engine, stream: FrameReader<TcpStream>) -> PeerError {
    let (reader, mut write) = stream.split();
    let _connected = Connected::new(link);
    engine.peer_connected(link.node);
    tokio::select! {
        error = listen(link, reader) => error,
        error = speak(link, &mut write) => error,
    }
}

/// The other side says nothing here but that it is alive, and what it was asked.
async fn listen(link: &Link, mut reader: FrameReader<impl AsyncRead + Unpin>) -> PeerError {
    loop {
        match reader.next(SILENCE_MAX).await {
            Ok((PeerMessage::Heartbeats(beats), _)) if beats.is_empty() => {}
            Ok((PeerMessage::Answer(answer), _)) => link.answered(answer),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asked_is_told_when_the_connection_ends_without_an_answer() {
        let link = Link::new(2, vec!["nowhere:1".into(), "elsewhere:1".into()]);
        assert_eq!(
            [0, 1, 2].map(|attempts| link.address(attempts)),
            ["nowhere:1", "elsewhere:1", "nowhere:1"]
        );
        assert!(link.ask("?".into()).is_none(), "asked without a connection");
        let connected = Connected::new(&link);
        let mut first = link.ask("?".into()).unwrap();
        let mut second = link.ask("?".into()).unwrap();
        link.answered(Numbered { number: 3, text: "!".into() });
        link.answered(Numbered { number: 9, text: "to nobody".into() });
        assert_eq!(second.try_recv(), Ok(Bytes::from("!")));
        assert_eq!(first.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(connected);
        assert_eq!(first.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
