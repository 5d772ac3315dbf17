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
//! - Both sides check cluster, node and data directory before the first message passes: against the metadata, and
//!   against what they saw of the node before.
//! - Links come, go and move with the members: see [`Roster`]. A broker that was removed is told so, and cut off.
//! - Sending never blocks: what does not fit into a peer's queue, or finds no connection, is dropped, and
//!   Raft repeats it.
//! - Whoever dialed says something every 100 ms, for all its shards together. When an accepted connection ends, or is
//!   silent for 400 ms, the engine is told at once: its node may be dead. So shards need no frequent heartbeats of their
//!   own. A false alarm is harmless, and taken back when something is heard again.
//! - A connection that is silent for five seconds is given up; the accepting side says something every second.
//! - A question is answered on the connection it came on. If that ends first, whoever asked is told so at once.

mod handshake;
mod link;
mod listener;
mod queue;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use lockstep_protocol::peer::{RaftMessage, RepairMessage};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use crate::cluster::{Asked, Colleagues, Members, Roster};
use crate::engine::{Engine, PeerSender, ShardId};
use crate::identity::DataDirectory;
use crate::metrics;
use crate::random::Random;
use link::Link;
pub use queue::{Letter, to_frames};

/// The dialing side says something at least this often.
const KEEPALIVE: Duration = Duration::from_millis(100);
/// A node from which nothing is heard for this long may be dead: its shards do not wait for their election timeouts.
const SUSPICION: Duration = Duration::from_millis(400);
/// The accepting side says something at least this often.
const ECHO: Duration = Duration::from_secs(1);
/// A connection on which nothing is heard for this long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The longest frame between brokers: the format's largest body, and room for the messages around it.
const FRAME_BYTES_MAX: usize = (256 << 20) + (16 << 20);

/// The way to the other brokers. Made before the engine, which sends through it; [`Peers::start`] connects.
pub struct Peers {
    node: u64,
    roster: Arc<Roster>,
    links: RwLock<BTreeMap<u64, Arc<Link>>>,
}

impl Peers {
    /// No links yet, of this node to those of the roster.
    pub fn new(node: u64, roster: Arc<Roster>) -> Arc<Peers> {
        Arc::new(Peers { node, roster, links: RwLock::default() })
    }

    /// Dials the members as they come, go and move, and accepts them, until the returned tasks are dropped. What they ask
    /// goes to `mailbox`. `seed` spreads the redials.
    pub fn start(
        self: &Arc<Peers>,
        listener: TcpListener,
        engine: &Engine,
        directory: &Arc<DataDirectory>,
        mailbox: mpsc::Sender<Asked>,
        seed: u64,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let accepting =
            listener::Shared::new(engine.clone(), Arc::clone(directory), Arc::clone(self), mailbox);
        tasks.spawn(listener::serve(listener, accepting));
        let random = Random::new(seed);
        tasks.spawn(dial_members(Arc::clone(self), engine.clone(), Arc::clone(directory), random));
        tasks
    }

    /// A node has just reached this one: it is up, so there is no point in waiting to dial it.
    fn heard_of(&self, node: u64) {
        if let Some(link) = self.link(node) {
            link.dial_now.notify_one();
        }
    }

    fn queue(&self, to: u64, letter: Letter) {
        let count = letter.messages();
        if self.link(to).is_some_and(|link| link.queue.push(letter)) {
            metrics::messages_sent(count);
        } else {
            metrics::peer_messages_dropped(count);
        }
    }

    fn link(&self, node: u64) -> Option<Arc<Link>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// Makes the links those of the members. Returns the new ones: to members that are new, or reached elsewhere now.
    fn meet(&self, members: &Members) -> Vec<Arc<Link>> {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        links.retain(|node, link| link.takes(&members.peer_addresses(*node)));
        let mut new = Vec::new();
        for member in members.iter().filter(|member| member.id != self.node) {
            links.entry(member.id).or_insert_with(|| {
                let link = Arc::new(Link::new(member.id, members.peer_addresses(member.id)));
                new.push(Arc::clone(&link));
                link
            });
        }
        new
    }
}

/// Keeps a connection to every member, for ever.
async fn dial_members(peers: Arc<Peers>, engine: Engine, directory: Arc<DataDirectory>, mut random: Random) {
    let mut members = peers.roster.watch();
    let mut dialing = JoinSet::new();
    let mut handles: BTreeMap<u64, AbortHandle> = BTreeMap::new();
    loop {
        let now = Arc::clone(&members.borrow_and_update());
        let new = peers.meet(&now);
        // Of a link that was replaced or removed, the connection ends here.
        handles.retain(|node, handle| {
            let stays = now.get(*node).is_some() && new.iter().all(|link| link.node != *node);
            if !stays {
                handle.abort();
            }
            stays
        });
        for link in new {
            let (roster, directory) = (Arc::clone(&peers.roster), Arc::clone(&directory));
            let node = link.node;
            let dial = link::keep_connected(link, roster, engine.clone(), directory, random.split());
            handles.insert(node, dialing.spawn(dial));
        }
        while dialing.try_join_next().is_some() {}
        if members.changed().await.is_err() {
            return;
        }
    }
}

impl Colleagues for Peers {
    fn ask(&self, broker: u64, question: Bytes) -> Option<oneshot::Receiver<Bytes>> {
        self.link(broker)?.ask(question)
    }

    fn connected(&self) -> Vec<u64> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.values().filter(|link| link.queue.is_open()).map(|link| link.node).collect()
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
