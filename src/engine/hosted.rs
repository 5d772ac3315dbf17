//! One shard on a worker loop: who waits for it, and how what it asks for is carried out.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use lockstep_protocol::peer::RaftMessage;
use tokio::sync::{mpsc, watch};

use super::{
    PeerSender,
    disk_workers::DiskWorkers,
    worker::{Ask, Mail, Reply},
};
use crate::{
    metrics,
    shard::{AppendError, Event, Health, Input, Output, Shard, ShardDescription, ShardId, ShardView, Token},
};

/// A shard, its waiting requests, and what it asked for since its last turn.
pub struct Hosted {
    id: ShardId,
    /// `None` once it panicked.
    shard: Option<Box<Shard>>,
    view: watch::Sender<ShardView>,
    waiting: HashMap<Token, (Reply, Instant)>,
    next_token: Token,
    outputs: Vec<Output>,
    touched: bool,
    writing: bool,
}

impl Hosted {
    /// Hosts a shard; `outputs` is what opening it asked for.
    pub fn new(shard: Box<Shard>, outputs: Vec<Output>, view: watch::Sender<ShardView>) -> Self {
        let id = shard.id();
        let shard = Some(shard);
        Self {
            id,
            shard,
            view,
            waiting: HashMap::new(),
            next_token: 1,
            outputs,
            touched: true,
            writing: false,
        }
    }

    /// Which shard.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Whether it has something to do.
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// Whether a write of its is on a disk worker.
    pub fn is_writing(&self) -> bool {
        self.writing
    }

    /// The shard in detail, while it lives.
    pub fn describe(&self) -> Option<ShardDescription> {
        self.shard.as_ref().map(|shard| shard.describe())
    }

    /// Queues a request under a token of its own.
    pub fn ask(&mut self, ask: Ask, reply: Reply) {
        if self.shard.is_none() {
            let _ =
                reply.send(Err(AppendError::Failed("it stopped; restart the broker to recover it".into())));
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        self.waiting.insert(token, (reply, Instant::now()));
        self.step(match ask {
            Ask::Append(append) => Input::Append { token, append },
            Ask::Command(command) => Input::Command { token, command },
            Ask::Tail => Input::Tail { token },
            Ask::Transfer(to) => Input::Transfer { token, to },
            Ask::Membership(changes) => Input::Membership { token, changes },
        });
    }

    /// Hands the shard one input.
    pub fn step(&mut self, input: Input) {
        self.touched = true;
        if matches!(input, Input::Synced(_)) {
            self.writing = false;
        }
        self.guarded(|shard, outputs| shard.step(input, outputs));
    }

    /// Lets the shard take its turn and carries out what it asks for.
    pub fn turn(
        &mut self,
        now_ms: i64,
        peers: &dyn PeerSender,
        disk_workers: &Arc<DiskWorkers>,
        mail: &mpsc::UnboundedSender<Mail>,
    ) {
        self.touched = false;
        self.guarded(|shard, outputs| shard.turn(now_ms, outputs));
        let mut to_peers: BTreeMap<u64, Vec<RaftMessage>> = BTreeMap::new();
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Send(message) => to_peers.entry(message.to).or_default().push(message),
                Output::Write(group) => self.write(group, disk_workers, mail),
                Output::ColdRead(read, reader) => {
                    let (shard, mail) = (self.id, mail.clone());
                    disk_workers.run(move || {
                        let started = Instant::now();
                        let entries = reader.read_entries(read.low, read.high, read.max_bytes);
                        match &entries {
                            Ok(entries) => {
                                let bytes = entries.iter().map(|entry| entry.body.len() as u64).sum();
                                metrics::cold_read(bytes, started.elapsed());
                            }
                            Err(error) => {
                                metrics::cold_read_failed();
                                tracing::error!(shard, low = read.low, %error, "a read for a slow follower failed");
                            }
                        }
                        let input = Input::ColdRead { id: read.id, entries: entries.ok() };
                        let _ = mail.send(Mail::Input { shard, input });
                    });
                }
                Output::Answer(token, answer) => {
                    if let Some((reply, asked)) = self.waiting.remove(&token) {
                        if answer.is_ok() {
                            metrics::committed(asked.elapsed());
                        }
                        let _ = reply.send(answer);
                    }
                }
                Output::View(view) => {
                    let before = self.view.send_replace(view.clone());
                    if before.health != view.health {
                        self.note_health(&view.health);
                    }
                }
                Output::Event(event) => self.note(event),
            }
        }
        for (node, messages) in to_peers {
            peers.send(node, self.id, messages);
        }
    }

    fn write(
        &mut self,
        group: lockstep_storage::WriteGroup,
        disk_workers: &Arc<DiskWorkers>,
        mail: &mpsc::UnboundedSender<Mail>,
    ) {
        let (shard, mail) = (self.id, mail.clone());
        self.writing = true;
        disk_workers.write(group, move |outcome| {
            let _ = mail.send(Mail::Input { shard, input: Input::Synced(outcome) });
        });
    }

    fn note_health(&self, health: &Health) {
        let shard = self.id;
        match health {
            Health::Failed(why) | Health::Faulty(why) => {
                tracing::error!(shard, why, "the replica stopped; see docs/operations.md for what to do");
            }
            Health::Full => {
                tracing::warn!(shard, "the disk is below its reserve of free space: appends are refused");
            }
            Health::Ok => tracing::info!(shard, "appends are taken again"),
        }
    }

    fn note(&self, event: Event) {
        let shard = self.id;
        match event {
            Event::BecameLeader { term } => {
                metrics::leader_changed();
                tracing::info!(shard, term, "this broker leads the shard");
            }
            Event::LostLeadership { term } => {
                metrics::leader_changed();
                tracing::info!(shard, term, "this broker no longer leads the shard");
            }
            Event::RolledBack { from_index, entries } => {
                metrics::truncated(entries);
                tracing::info!(shard, from_index, entries, "rolled back a suffix that lost an election");
            }
            Event::SnapshotInstalled { index } => {
                tracing::info!(shard, index, "installed a snapshot");
            }
            Event::MembershipRefused { index, why } => {
                tracing::error!(
                    shard,
                    index,
                    why,
                    "a committed membership change makes no sense and was ignored"
                );
            }
            Event::DamagedMessage { index, why } => {
                tracing::error!(shard, index, why, "dropped a peer's message that was damaged on the way");
            }
        }
    }

    /// Runs the shard's code. A panic ends this shard and no other: what it knew is in its log, and recovery reads it.
    fn guarded(&mut self, run: impl FnOnce(&mut Shard, &mut Vec<Output>)) {
        let Some(shard) = self.shard.as_mut() else { return };
        let outputs = &mut self.outputs;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(shard, outputs))) {
            let why = format!("an invariant broke: {}", panic_message(&*panic));
            tracing::error!(
                shard = self.id,
                why,
                "the shard stopped; restart the broker to recover it from its log"
            );
            self.shard = None;
            self.waiting.clear();
            self.outputs.retain(|output| matches!(output, Output::Write(_)));
            let health = Health::Failed(why);
            self.view.send_modify(|view| {
                *view = ShardView { health, is_leader: false, leader: None, ..view.clone() }
            });
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
