//! The connections other nodes dial to this one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lockstep_protocol::peer::{Numbered, PeerMessage, RepairMessage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handshake::{FrameReader, PeerError, receive};
use super::{ECHO, Peers, SILENCE_MAX, SUSPICION};
use crate::cluster::{Asked, Reply, Roster};
use crate::engine::Engine;
use crate::identity::{DataDirectory, DirectoryId};
use crate::metrics;
use crate::net::vectored::write_frames;

/// How long to wait after the system refused to accept, as it does when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections at once: each peer has one, and may be making the next.
const CONNECTIONS_MAX: usize = 256;
/// Answers that wait to be sent to one peer; it asks again for more.
const ANSWERS_WAITING_MAX: usize = 64;

/// What the accepted connections share.
pub(super) struct Shared {
    engine: Engine,
    directory: Arc<DataDirectory>,
    peers: Arc<Peers>,
    mailbox: mpsc::Sender<Asked>,
    /// The newest connection of each node, by number: the end of an older one says nothing.
    newest: Mutex<BTreeMap<u64, u64>>,
}

/// Accepts peers until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Shared) {
    let shared = Arc::new(shared);
    let mut connections = JoinSet::new();
    for number in 0.. {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok(_) if connections.len() >= CONNECTIONS_MAX => {
                tracing::warn!("too many peer connections; is the peer address open to others?");
            }
            Ok((stream, address)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    if let Err(error) = serve_one(&shared, stream, number).await {
                        tracing::info!(%address, %error, "a peer's connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_one(shared: &Shared, stream: TcpStream, number: u64) -> Result<(), PeerError> {
    stream.set_nodelay(true)?;
    let mut stream = FrameReader::new(stream);
    let roster = &shared.peers.roster;
    let (from, their_directory) = receive(&mut stream, roster, &shared.directory).await?;
    stream.trust();
    if !shared.is_newest(from, number) {
        return Err(PeerError::Closed);
    }
    tracing::info!(node = from, "a peer connected");
    shared.peers.heard_of(from);
    let (reader, mut write) = stream.split();
    let (answers, answered) = mpsc::channel(ANSWERS_WAITING_MAX);
    let error = tokio::select! {
        error = listen(shared, from, number, reader, answers) => error,
        error = speak(answered, &mut write) => error,
        error = until_removed(roster, from, their_directory) => error,
    };
    if shared.newest().get(&from) == Some(&number) {
        shared.engine.peer_disconnected(from);
    }
    Err(error)
}

async fn listen(
    shared: &Shared,
    from: u64,
    number: u64,
    mut reader: FrameReader<impl AsyncRead + Unpin>,
    answers: mpsc::Sender<(u64, Bytes)>,
) -> PeerError {
    let mut silence = Duration::ZERO;
    loop {
        let (message, bytes) = match reader.next(SUSPICION).await {
            Ok(next) => next,
            Err(PeerError::Silent) if silence < SILENCE_MAX => {
                if silence.is_zero() && shared.newest().get(&from) == Some(&number) {
                    tracing::warn!(node = from, "nothing is heard of a peer");
                    shared.engine.peer_disconnected(from);
                }
                silence += SUSPICION;
                continue;
            }
            Err(error) => return error,
        };
        metrics::peer_received(bytes);
        if !std::mem::take(&mut silence).is_zero() {
            shared.engine.peer_connected(from);
        }
        // What an earlier connection still holds must not arrive behind what a later one brought.
        let newest = shared.newest();
        if newest.get(&from) != Some(&number) {
            return PeerError::Closed;
        }
        match message {
            // Nobody speaks for another node.
            PeerMessage::Raft { shard, mut messages } => {
                messages.retain(|message| message.from == from);
                shared.engine.deliver(shard, messages);
            }
            PeerMessage::Heartbeats(heartbeats) => {
                for heartbeat in heartbeats.into_iter().filter(|heartbeat| heartbeat.from == from) {
                    shared.engine.deliver(heartbeat.shard, vec![heartbeat.to_message()]);
                }
            }
            PeerMessage::Repair { shard, number, message: RepairMessage::Ask }
                if !shared.directory.has_shard(shard) =>
            {
                shared.engine.tell_former(shard, from, number);
            }
            PeerMessage::Repair { shard, number, message } => {
                shared.engine.deliver_repair(shard, from, number, message);
            }
            PeerMessage::Question(Numbered { number, text }) => {
                let reply = Reply::new(number, answers.clone());
                // A queue that is full drops it: whoever asked asks again.
                let _ = shared.mailbox.try_send(Asked { from, question: text, reply });
            }
            PeerMessage::Hello(_) | PeerMessage::HelloReply(_) | PeerMessage::Answer(_) => {
                return PeerError::OutOfTurn;
            }
        }
    }
}

/// Ends once the node is no member any more.
async fn until_removed(roster: &Roster, node: u64, directory: DirectoryId) -> PeerError {
    let mut members = roster.watch();
    let refused = members.wait_for(|members| members.check(node, directory).is_err()).await;
    match refused.map(|members| members.check(node, directory)) {
        Ok(Err(refusal)) => PeerError::Refuses(refusal.to_string()),
        _ => PeerError::Closed,
    }
}

/// Tells the dialing side that this one is alive, and the answers to what it asked; nothing else is said in this direction.
async fn speak(
    mut answered: mpsc::Receiver<(u64, Bytes)>,
    write: &mut (impl AsyncWrite + Unpin),
) -> PeerError {
    loop {
        let frame = match timeout(ECHO, answered.recv()).await {
            Ok(Some((number, text))) => PeerMessage::Answer(Numbered { number, text }).encode(),
            Ok(None) => return PeerError::Closed,
            Err(_) => PeerMessage::Heartbeats(Vec::new()).encode(),
        };
        if let Err(error) = write_frames(write, &[frame], SILENCE_MAX).await {
            return error.into();
        }
    }
}

impl Shared {
    pub(super) fn new(
        engine: Engine,
        directory: Arc<DataDirectory>,
        peers: Arc<Peers>,
        mailbox: mpsc::Sender<Asked>,
    ) -> Shared {
        Shared { engine, directory, peers, mailbox, newest: Mutex::default() }
    }

    /// Notes a connection as its node's newest, unless a newer one stands.
    fn is_newest(&self, from: u64, number: u64) -> bool {
        let mut newest = self.newest();
        let stands = newest.entry(from).or_insert(number);
        *stands = number.max(*stands);
        *stands == number
    }

    fn newest(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, u64>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
