//! One worker loop: takes all mail that waits, lets every shard it touched take one turn, carries out what they ask.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

use lockstep_protocol::peer::RaftMessage;
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};

use super::{
    PeerSender,
    disk_workers::DiskWorkers,
    hosted::{Around, Hosted, Shown},
    pace::{Charge, Pace},
};
use crate::{
    raft::MembershipChange,
    replica::{self, Job, Replica},
    shard::{Answer, Append, AppendError, Command, Former, Input, ShardDescription, ShardId, Token},
};

/// Letters taken from the queue at a time.
const MAIL_AT_ONCE: usize = 1024;

/// How a request is answered.
pub type Reply = oneshot::Sender<Result<Answer, AppendError>>;

/// A request to a shard.
pub enum Ask {
    /// Append a batch.
    Append(Append),
    /// Change the shard's state.
    Command(Command),
    /// Say how far groups have come.
    Positions(Option<Arc<str>>),
    /// Confirm the tail.
    Tail,
    /// Hand leadership over.
    Transfer(u64),
    /// Hand leadership to whoever has come furthest.
    HandOver,
    /// Change the membership; decided on the one of this index.
    Membership(Vec<MembershipChange>, u64),
}

impl Input {
    /// What a request is to its shard.
    pub fn from_ask(token: Token, ask: Ask) -> Self {
        match ask {
            Ask::Append(append) => Self::Append { token, append },
            Ask::Command(command) => Self::Command { token, command },
            Ask::Positions(group) => Self::Positions { token, group },
            Ask::Tail => Self::Tail { token },
            Ask::Transfer(to) => Self::Transfer { token, to },
            Ask::HandOver => Self::HandOver { token },
            Ask::Membership(changes, decided_on) => {
                Self::Membership { token, changes, decided_on: Some(decided_on) }
            }
        }
    }
}

/// What a worker loop is told.
pub enum Mail {
    /// Host a replica.
    Host { replica: Box<Replica>, outputs: Vec<replica::Output>, shown: Shown },
    /// Stop hosting a shard, once its write in flight is done.
    Evict { shard: ShardId, reply: oneshot::Sender<()> },
    /// Stop hosting a shard, once its write in flight is done, if it may go as who knew this membership says. The answer is
    /// what its replica has promised; nothing if it stays.
    Retire { shard: ShardId, membership_index: u64, reply: oneshot::Sender<Option<Former>> },
    /// Ask a shard for something.
    Request { shard: ShardId, ask: Ask, reply: Reply },
    /// Messages of a peer.
    Messages { shard: ShardId, messages: Vec<RaftMessage> },
    /// Anything else for one shard.
    Input { shard: ShardId, input: replica::Input },
    /// A read for a learner has waited for its turn. `life` is that of the replica that asked for it.
    Begin { shard: ShardId, life: Weak<()>, job: Job, charge: Charge },
    /// A shard in detail.
    Describe { shard: ShardId, reply: oneshot::Sender<ShardDescription> },
    /// A node's connection closed, or nothing is heard on it.
    PeerLost(u64),
    /// A node can be reached.
    PeerFound(u64),
    /// The disk fell below its reserve, or has room again.
    DiskFull(bool),
    /// Seal and sync everything, and end.
    Stop { reply: oneshot::Sender<()> },
}

/// What a loop's shards need of it; a macro, so that the shards themselves are not borrowed.
macro_rules! around {
    ($worker:expr, $mail:expr) => {
        Around {
            peers: &*$worker.peers,
            disk_workers: &$worker.disk_workers,
            pace: $worker.pace.as_ref(),
            mail: $mail,
        }
    };
}

/// Who waits for a shard to go.
enum Eviction {
    Any(oneshot::Sender<()>),
    Retired { membership_index: u64, reply: oneshot::Sender<Option<Former>> },
}

impl Eviction {
    /// Tells whoever waits whether the shard goes now; it promises nothing more then.
    fn answer(self, hosted: Option<&Hosted>) -> bool {
        match self {
            Self::Any(reply) => {
                let _ = reply.send(());
                true
            }
            Self::Retired { membership_index, reply } => {
                let promised = hosted.and_then(|hosted| hosted.promised_if_dropped(membership_index));
                let goes = promised.is_some();
                let _ = reply.send(promised);
                goes
            }
        }
    }
}

/// One loop and the shards it hosts.
pub struct Worker {
    shards: BTreeMap<ShardId, Hosted>,
    /// Those that may have something to do; a loop does not walk through all for the mail of a few.
    touched: BTreeSet<ShardId>,
    /// Ticks that have passed.
    ticks: u64,
    /// By which tick each shard is to be handed those that have passed. With thousands of them it is the walk through their
    /// memory that costs, not the ticks.
    due: BTreeSet<(u64, ShardId)>,
    mail: mpsc::UnboundedReceiver<Mail>,
    stopping: Option<oneshot::Sender<()>>,
    evictions: Vec<(ShardId, Eviction)>,
    disk_full: bool,
    sender: mpsc::WeakUnboundedSender<Mail>,
    peers: Arc<dyn PeerSender>,
    disk_workers: Arc<DiskWorkers>,
    pace: Option<Arc<Pace>>,
}

impl Worker {
    /// Starts a loop; it ends with [`Mail::Stop`], or when nobody can send it anything any more.
    pub fn spawn(
        tick: Duration,
        peers: Arc<dyn PeerSender>,
        disk_workers: Arc<DiskWorkers>,
        pace: Option<Arc<Pace>>,
    ) -> mpsc::UnboundedSender<Mail> {
        let (sender, mail) = mpsc::unbounded_channel();
        let worker = Self {
            shards: BTreeMap::new(),
            touched: BTreeSet::new(),
            ticks: 0,
            due: BTreeSet::new(),
            mail,
            stopping: None,
            evictions: Vec::new(),
            disk_full: false,
            sender: sender.downgrade(),
            peers,
            disk_workers,
            pace,
        };
        tokio::spawn(worker.run(tick));
        sender
    }

    async fn run(mut self, tick: Duration) {
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut letters = Vec::with_capacity(MAIL_AT_ONCE);
        loop {
            tokio::select! {
                count = self.mail.recv_many(&mut letters, MAIL_AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    for letter in letters.drain(..) {
                        self.take(letter);
                    }
                }
                _ = ticks.tick() => self.tick(),
            }
            self.turn();
            if self.finish() {
                return;
            }
        }
    }

    /// A tick has passed: whoever has something to do because of it is handed those that it has not been handed.
    fn tick(&mut self) {
        self.ticks += 1;
        while let Some((due, shard)) = self.due.pop_first() {
            if due > self.ticks {
                self.due.insert((due, shard));
                return;
            }
            let Some(hosted) = self.shards.get_mut(&shard) else { continue };
            hosted.catch_up(self.ticks);
            match hosted.is_touched() {
                true => drop(self.touched.insert(shard)),
                false => drop(self.due.insert((hosted.schedule(), shard))),
            }
        }
    }

    fn take(&mut self, letter: Mail) {
        let now = self.ticks;
        match letter {
            Mail::Host { replica, outputs, shown } => {
                let mut hosted = Hosted::new(replica, outputs, shown, now);
                hosted.step(Input::DiskFull(self.disk_full), now);
                self.touched.insert(hosted.id());
                self.shards.insert(hosted.id(), hosted);
            }
            Mail::Evict { shard, reply } => self.evictions.push((shard, Eviction::Any(reply))),
            Mail::Retire { shard, membership_index, reply } => {
                self.evictions.push((shard, Eviction::Retired { membership_index, reply }));
            }
            Mail::Request { shard, ask, reply } => match self.touch(shard) {
                Some(hosted) => hosted.ask(ask, reply, now),
                None => drop(reply.send(Err(AppendError::Stopped))),
            },
            Mail::Messages { shard, messages } => {
                if let Some(hosted) = self.touch(shard) {
                    for message in messages {
                        hosted.step(Input::Peer(message), now);
                    }
                }
            }
            Mail::Input { shard, input } => {
                if let Some(hosted) = self.touch(shard) {
                    hosted.step(input, now);
                }
            }
            Mail::Begin { shard, life, job, charge } => {
                let Some(mail) = self.sender.upgrade() else { return };
                let around = around!(self, &mail);
                match self.shards.get_mut(&shard).filter(|hosted| hosted.is(&life)) {
                    Some(hosted) => hosted.begin(job, Some(charge), &around),
                    None => self.pace.iter().for_each(|pace| pace.settle(&charge, 0)),
                }
            }
            Mail::Describe { shard, reply } => {
                if let Some(description) = self.shards.get(&shard).map(Hosted::describe) {
                    let _ = reply.send(description);
                }
            }
            Mail::PeerLost(node) => self.step_all(|| Input::PeerLost { node }),
            Mail::PeerFound(node) => self.step_all(|| Input::PeerFound { node }),
            Mail::DiskFull(full) => {
                self.disk_full = full;
                self.step_all(|| Input::DiskFull(full));
            }
            Mail::Stop { reply } => {
                self.stopping = Some(reply);
                self.step_all(|| Input::Seal);
            }
        }
    }

    fn step_all(&mut self, input: impl Fn() -> Input) {
        for (shard, hosted) in &mut self.shards {
            hosted.step(input(), self.ticks);
            self.touched.insert(*shard);
        }
    }

    /// A shard that is about to be told something.
    fn touch(&mut self, shard: ShardId) -> Option<&mut Hosted> {
        let hosted = self.shards.get_mut(&shard)?;
        self.touched.insert(shard);
        Some(hosted)
    }

    fn turn(&mut self) {
        let Some(sender) = self.sender.upgrade() else { return };
        let now_ms = now_ms();
        let around = around!(self, &sender);
        for shard in std::mem::take(&mut self.touched) {
            let Some(hosted) = self.shards.get_mut(&shard) else { continue };
            if hosted.is_touched() {
                hosted.turn(now_ms, &around);
            }
            let before = hosted.due();
            let due = hosted.schedule();
            if before != due {
                self.due.remove(&(before, shard));
            }
            self.due.insert((due, shard));
        }
    }

    /// Completes evictions and the stop, where no write is in flight any more; returns whether the loop ends.
    fn finish(&mut self) -> bool {
        for (shard, eviction) in std::mem::take(&mut self.evictions) {
            match self.shards.get(&shard) {
                Some(hosted) if hosted.is_busy() => self.evictions.push((shard, eviction)),
                hosted => {
                    if eviction.answer(hosted) {
                        self.shards.remove(&shard);
                    }
                }
            }
        }
        if self.stopping.is_none() || self.shards.values().any(Hosted::is_busy) {
            return false;
        }
        self.shards.clear();
        self.stopping.take().map(|reply| reply.send(())).is_some()
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as i64)
}
