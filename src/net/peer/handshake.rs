//! The peers' handshake, from both sides.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use lockstep_protocol::peer::{
    PEER_VERSION, PeerDecoder, PeerFrameError, PeerHello, PeerMessage, PeerWelcome,
};
use lockstep_protocol::{ErrorCode, ErrorOutcome, Outcome};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::cluster::{Refusal, Roster};
use crate::identity::{ClusterId, DataDirectory, DirectoryId, IdentityError};
use crate::net::vectored::write_frames;

/// How long the other side may take for its part.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest frame before the other side is known.
const STRANGER_FRAME_BYTES_MAX: usize = 16 << 10;
/// Bytes of a buffer that is read into.
const READ_BYTES: usize = 64 << 10;
/// With less room than this in it, the next one is begun. Entries are kept as they lie in it: if each small message began
/// another buffer, memory would hold a whole one for each of them.
const READ_ROOM_BYTES: usize = 4 << 10;

/// Why two brokers do not talk to each other.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The bytes are not the peer protocol.
    #[error("{0}")]
    Frame(#[from] PeerFrameError),
    /// The other side closed the connection.
    #[error("the other side closed the connection")]
    Closed,
    /// The other side said nothing for too long.
    #[error("the other side was silent for too long")]
    Silent,
    /// The other side said something out of turn.
    #[error("the other side spoke out of turn: is the address that of a Lockstep peer listener?")]
    OutOfTurn,
    /// The other side refuses this node.
    #[error("it refuses this node: {}", .0.message)]
    Refused(ErrorOutcome),
    /// This node refuses the other side.
    #[error("this node refuses it: {0}")]
    Refuses(String),
}

/// A peer's frames, cut out of a stream.
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    decoder: PeerDecoder,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Takes only short frames until [`FrameReader::trust`].
    pub(super) fn new(stream: R) -> FrameReader<R> {
        FrameReader { stream, buffer: BytesMut::new(), decoder: PeerDecoder::new(STRANGER_FRAME_BYTES_MAX) }
    }

    /// Takes frames of any length that brokers send.
    pub(super) fn trust(&mut self) {
        self.decoder = PeerDecoder::new(super::FRAME_BYTES_MAX);
    }

    /// The next frame, and how many bytes were read for it.
    pub(super) async fn next(&mut self, patience: Duration) -> Result<(PeerMessage, u64), PeerError> {
        let mut count = 0;
        loop {
            if let Some(message) = self.decoder.decode(&mut self.buffer)? {
                return Ok((message, count));
            }
            // The decoder has checked the length against the limit, or there is none yet.
            let announced =
                self.buffer.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize + 4);
            let missing = announced.saturating_sub(self.buffer.len());
            if self.buffer.capacity() - self.buffer.len() < missing.max(READ_ROOM_BYTES) {
                self.buffer.reserve(missing.max(READ_BYTES));
            }
            match timeout(patience, self.stream.read_buf(&mut self.buffer)).await {
                Err(_) => return Err(PeerError::Silent),
                Ok(read) => match read? {
                    0 => return Err(PeerError::Closed),
                    read => count += read as u64,
                },
            }
        }
    }
}

impl FrameReader<TcpStream> {
    /// The two directions, each for itself.
    pub(super) fn split(self) -> (FrameReader<OwnedReadHalf>, OwnedWriteHalf) {
        let (read, write) = self.stream.into_split();
        (FrameReader { stream: read, buffer: self.buffer, decoder: self.decoder }, write)
    }
}

/// The dialing side: says who this is, and checks who answers.
pub(super) async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut FrameReader<S>,
    to: u64,
    roster: &Roster,
    directory: &Arc<DataDirectory>,
) -> Result<(), PeerError> {
    let identity = directory.identity();
    let hello = PeerHello {
        version: PEER_VERSION,
        cluster: identity.cluster.0,
        from: identity.node,
        to,
        directory: identity.directory.0,
    };
    write_frames(&mut stream.stream, &[PeerMessage::Hello(hello).encode()], TIMEOUT).await?;
    match stream.next(TIMEOUT).await?.0 {
        PeerMessage::HelloReply(Ok(PeerWelcome { directory: theirs })) => {
            check_member(roster, directory, to, theirs)
                .await
                .map_err(|refusal| PeerError::Refuses(refusal.message))
        }
        PeerMessage::HelloReply(Err(refusal)) => Err(PeerError::Refused(refusal)),
        _ => Err(PeerError::OutOfTurn),
    }
}

/// The accepting side: hears who that is, and says whether it is welcome. Returns the node and its directory.
pub(super) async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut FrameReader<S>,
    roster: &Roster,
    directory: &Arc<DataDirectory>,
) -> Result<(u64, DirectoryId), PeerError> {
    let PeerMessage::Hello(hello) = stream.next(TIMEOUT).await?.0 else { return Err(PeerError::OutOfTurn) };
    let outcome = judge(&hello, roster, directory).await;
    let reply = PeerMessage::HelloReply(outcome.clone()).encode();
    write_frames(&mut stream.stream, &[reply], TIMEOUT).await?;
    match outcome {
        Ok(_) => Ok((hello.from, DirectoryId(hello.directory))),
        Err(refusal) => Err(PeerError::Refuses(refusal.message)),
    }
}

async fn judge(hello: &PeerHello, roster: &Roster, directory: &Arc<DataDirectory>) -> Outcome<PeerWelcome> {
    let identity = directory.identity();
    let refuse = |code, message: String| Err(ErrorOutcome::new(code, message));
    if hello.version != PEER_VERSION {
        let message = format!(
            "node {} speaks peer protocol {PEER_VERSION}, not {}: upgrade the brokers one version at a time",
            identity.node, hello.version
        );
        return refuse(ErrorCode::UnsupportedVersion, message);
    }
    if hello.cluster != identity.cluster.0 {
        let message = format!(
            "node {} belongs to cluster {}, not to {}: correct the addresses in [[nodes]]",
            identity.node,
            identity.cluster,
            ClusterId(hello.cluster)
        );
        return refuse(ErrorCode::ClusterMismatch, message);
    }
    if hello.to != identity.node {
        let message = format!(
            "this is node {}, not node {}: correct the addresses in [[nodes]]",
            identity.node, hello.to
        );
        return refuse(ErrorCode::NodeMismatch, message);
    }
    if hello.from == identity.node {
        let message = format!("this is node {} itself: give each broker an id of its own", identity.node);
        return refuse(ErrorCode::NodeMismatch, message);
    }
    check_member(roster, directory, hello.from, hello.directory).await?;
    Ok(PeerWelcome { directory: identity.directory.0 })
}

/// Whether a node is a member with this directory: as the cluster has it, and as it was seen here before.
async fn check_member(
    roster: &Roster,
    directory: &Arc<DataDirectory>,
    node: u64,
    theirs: [u8; 16],
) -> Outcome<()> {
    roster.members().check(node, DirectoryId(theirs)).map_err(|refusal| {
        let unknown =
            || format!("broker {node} is no member of the cluster; start it with --join to make it one");
        match refusal {
            Refusal::BrokerRemoved(_) => ErrorOutcome::new(ErrorCode::BrokerRemoved, refusal.to_string()),
            Refusal::UnknownBroker(_) => ErrorOutcome::new(ErrorCode::NodeMismatch, unknown()),
            _ => ErrorOutcome::new(ErrorCode::NodeMismatch, refusal.to_string()),
        }
    })?;
    let checked = check_directory(directory, node, theirs).await;
    checked.map_err(|error| ErrorOutcome::new(ErrorCode::NodeMismatch, error.to_string()))
}

/// The first check of a peer writes its directory down and syncs that: off the network's threads.
async fn check_directory(
    directory: &Arc<DataDirectory>,
    node: u64,
    theirs: [u8; 16],
) -> Result<(), IdentityError> {
    let ours = Arc::clone(directory);
    let check = tokio::task::spawn_blocking(move || ours.check_peer(node, DirectoryId(theirs))).await;
    check.unwrap_or_else(|panicked| {
        Err(IdentityError::Io { path: directory.path().to_owned(), source: std::io::Error::other(panicked) })
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lockstep_protocol::peer::{RaftMessage, WireEntry};

    use super::*;

    #[tokio::test]
    async fn small_entries_that_are_kept_share_buffers() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let mut reader = FrameReader::new(far);
        reader.trust();
        let entry = WireEntry { body: Bytes::from(vec![7; 500]), ..WireEntry::default() };
        let mut kept: Vec<Bytes> = Vec::new();
        for index in 1..=200 {
            let message = RaftMessage { index, entries: vec![entry.clone()], ..RaftMessage::default() };
            let frame = PeerMessage::Raft { shard: 1, messages: vec![message] }.encode();
            write_frames(&mut near, &[frame], TIMEOUT).await.unwrap();
            let Ok((PeerMessage::Raft { messages, .. }, _)) = reader.next(TIMEOUT).await else {
                panic!("message {index} arrives")
            };
            kept.extend(messages.into_iter().flat_map(|message| message.entries).map(|entry| entry.body));
        }
        let distance = |pair: &[Bytes]| (pair[1].as_ptr() as usize).wrapping_sub(pair[0].as_ptr() as usize);
        let first = distance(&kept[..2]);
        assert!(first < 1_000, "the second lies behind the first");
        let elsewhere = kept.windows(2).filter(|pair| distance(pair) != first).count();
        assert!(elsewhere <= 200 * first / (READ_BYTES - READ_ROOM_BYTES) + 1, "{elsewhere} began a buffer");
    }
}
