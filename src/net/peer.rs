//! The other brokers: one connection each way between any two.
//!
//! ```text
//!   engine ── send ──► queue ── link ── socket ──►  listener ── deliver ──► engine
//!   (this node)        bounded   dials              (the other node)
//!
//!   cluster ── ask ───► link ── socket ──► listener ── Asked ──► cluster
//!           ◄────────── answer, on the same connection ─────────
//! ```
//!
//! What holds:
//! - Messages of this node go out on the connection it dialed; what comes in, comes on the one it accepted.
//! - Both sides check cluster, node and data directory before the first message passes.
//! - Sending never blocks: what does not fit into a peer's queue, or finds no connection, is dropped, and
//!   Raft repeats it.
//! - A connection that is silent for five seconds is given up; both sides say something every second.
//! - A question is answered on the connection it came on. If that ends first, whoever asked is told so at once.
//! - When an accepted connection ends, the engine is told at once: its node may be dead.

mod handshake;
mod link;
mod listener;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_protocol::peer::{RaftMessage, RepairMessage};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::cluster::{Asked, Colleagues};
use crate::config::Node;
use crate::engine::{Engine, PeerSender, ShardId};
use crate::identity::DataDirectory;
use crate::metrics;
use crate::random::Random;
use link::Link;
pub use queue::{Letter, to_frames};

/// Something is said at least this often.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// A connection on which nothing is heard for this long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The longest frame between brokers: the format's largest body, and room for the messages around it.
const FRAME_BYTES_MAX: usize = (256 << 20) + (16 << 20);

/// The way to the other brokers. Made before the engine, which sends through it; [`Peers::start`] connects.
pub struct Peers {
    links: BTreeMap<u64, Arc<Link>>,
}

impl Peers {
    /// Links to all members but `node`, not connected yet.
    pub fn new(node: u64, members: &[Node]) -> Arc<Peers> {
        let others = members.iter().filter(|member| member.id != node);
        let links = others.map(|member| (member.id, Arc::new(Link::new(member.id, member.peer.clone()))));
        Arc::new(Peers { links: links.collect() })
    }

    /// Dials the others and accepts them, until the returned tasks are dropped. What they ask goes to `mailbox`. `seed`
    /// spreads the redials.
    pub fn start(
        self: &Arc<Peers>,
        listener: TcpListener,
        engine: &Engine,
        directory: &Arc<DataDirectory>,
        mailbox: mpsc::Sender<Asked>,
        seed: u64,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let mut random = Random::new(seed);
        for link in self.links.values() {
            tasks.spawn(link::keep_connected(Arc::clone(link), Arc::clone(directory), random.split()));
        }
        let accepting =
            listener::Shared::new(engine.clone(), Arc::clone(directory), Arc::clone(self), mailbox);
        tasks.spawn(listener::serve(listener, accepting));
        tasks
    }

    /// A node has just reached this one: it is up, so there is no point in waiting to dial it.
    fn heard_of(&self, node: u64) {
        if let Some(link) = self.links.get(&node) {
            link.dial_now.notify_one();
        }
    }

    fn queue(&self, to: u64, letter: Letter) {
        let count = letter.messages();
        if self.links.get(&to).is_some_and(|link| link.queue.push(letter)) {
            metrics::messages_sent(count);
        } else {
            metrics::peer_messages_dropped(count);
        }
    }

    fn is_member(&self, node: u64) -> bool {
        self.links.contains_key(&node)
    }
}

impl Colleagues for Peers {
    fn ask(&self, broker: u64, question: Bytes) -> Option<oneshot::Receiver<Bytes>> {
        self.links.get(&broker)?.ask(question)
    }

    fn connected(&self) -> Vec<u64> {
        self.links.values().filter(|link| link.queue.is_open()).map(|link| link.node).collect()
    }
}

impl PeerSender for Peers {
    fn send(&self, to: u64, shard: ShardId, messages: Vec<RaftMessage>) {
        self.queue(to, Letter::Raft { shard, messages });
    }

    fn send_repair(&self, to: u64, shard: ShardId, number: u64, message: RepairMessage) {
        self.queue(to, Letter::Repair { shard, number, message });
    }
}
