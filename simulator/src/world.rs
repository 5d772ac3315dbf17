//! The whole cluster in one thread: events in, production code run, events out.
//!
//! What holds:
//! - A run is a function of its plan: no clock, no thread, no map whose order is not that of its keys.
//! - The production code runs as in its own shell: what came in while a node was busy is one turn, one write group of
//!   a shard is on its way at a time, a panic ends a shard.
//! - The first rule that does not hold ends the run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lockstep::engine;
use lockstep::raft::GroupOptions;
use lockstep::random::Random;
use lockstep::shard::{self, ShardOptions};
use lockstep_storage::LogOptions;
use lockstep_storage::io::Disk;

use crate::brokers::{Brokers, Identity, Task};
use crate::client::{self, Client, Surroundings, Told, Wish};
use crate::damage::Damage;
use crate::invariants::{Invariants, Violation};
use crate::kinds::Target;
use crate::ledger::Ledger;
use crate::network::{CLIENTS, Network};
use crate::node::Node;
use crate::placement::{self, Placements};
use crate::plan::Plan;
use crate::queue::{Event, MICROSECOND, MILLISECOND, Queue, SECOND, Time};
use crate::replica::Panicked;
use crate::server::{self, shard_of};
use crate::stats::Stats;
use crate::trace::Trace;

/// How long a client waits for a connection.
const CONNECT_TIMEOUT: Time = SECOND;
/// Free space below which a node takes no records.
pub const FREE_SPACE_RESERVE: u64 = 32 << 10;

/// Everything.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) queue: Queue,
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) placements: Placements,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    pub(crate) ledger: Ledger,
    pub(crate) invariants: Invariants,
    pub(crate) trace: Trace,
    pub(crate) stats: Stats,
    pub(crate) random: Random,
    /// Parts of the plan that are going on, and the nodes they turned out to be about.
    pub(crate) active: BTreeMap<usize, u64>,
    /// The nodes that a rolling restart has not restarted yet, and for how long each is to be away.
    pub(crate) rolling: VecDeque<(u64, Time)>,
    /// The cluster's brokers, if it is one of brokers.
    pub(crate) brokers: Brokers,
    /// What was done to the disks.
    pub(crate) damages: Vec<Damage>,
    /// Clients begin new work.
    pub(crate) working: bool,
    /// No part of the plan begins any more.
    pub(crate) faults_over: bool,
    pub(crate) violation: Option<Violation>,
    producer_ids: i64,
}

/// Where a shard's files are.
pub fn directory(shard: u64) -> String {
    engine::directory(shard)
}

impl World {
    /// A cluster that has just been set up: every shard formatted on every node, nothing running yet.
    pub fn new(plan: Plan, keep_trace: bool) -> Self {
        let mut random = Random::new(plan.seed);
        let mut ledger = Ledger::new(plan.shards, plan.forgets());
        let clients = client::of_plan(&plan.load, plan.shards, plan.nodes, &mut ledger, plan.seed);
        let mut world = Self {
            queue: Queue::default(),
            nodes: BTreeMap::new(),
            placements: placement::of_plan(&plan),
            network: Network::new(plan.network.clone(), random.split()),
            clients,
            ledger,
            invariants: Invariants::default(),
            trace: Trace::new(plan.nodes, keep_trace),
            stats: Stats { seeds: 1, ..Stats::default() },
            random,
            active: BTreeMap::new(),
            rolling: VecDeque::new(),
            brokers: Brokers::default(),
            damages: Vec::new(),
            working: true,
            faults_over: false,
            violation: None,
            producer_ids: 0,
            plan,
        };
        world.set_up();
        world
    }

    fn set_up(&mut self) {
        let voters: Vec<u64> = (1..=self.plan.replicas).collect();
        for id in 1..=self.plan.nodes {
            let drift = self.plan.cluster.drift_ppm;
            let node = Node::new(id, self.random.below(2 * drift + 1) as i64 - drift as i64);
            let disk: Arc<dyn Disk> = Arc::<lockstep_storage::io::FakeDisk>::clone(&node.disk);
            disk.create_dir("shards")
                .and_then(|()| disk.sync_dir(""))
                .expect("a fresh disk takes a directory");
            let formatted = voters.contains(&id) && !self.plan.brokers;
            for partition in 0..if formatted { self.plan.shards } else { 0 } {
                let options = self.shard_options(id, shard_of(partition));
                shard::create(&disk, &options, &voters, &mut self.random).expect("a fresh disk takes a log");
            }
            node.disk.lie_about_syncs(self.plan.disk.lie);
            self.nodes.insert(id, node);
            let after = self.random.below(20 * MILLISECOND);
            self.queue.after(after, Event::Start { node: id });
        }
        if self.plan.moves() {
            self.queue.after(MILLISECOND, Event::Moves);
        }
        if self.plan.brokers {
            for id in &voters {
                let directory = self.draw_directory();
                if let Some(node) = self.nodes.get_mut(id) {
                    node.identity = Some(Identity::of_founder(*id, directory, voters.clone()));
                }
            }
            self.want(Task::Create);
            self.queue.after(MILLISECOND, Event::Errands);
        }
        for client in 0..self.clients.len() {
            self.queue.after(MILLISECOND, Event::Wake { client });
        }
        for (part, planned) in self.plan.parts.iter().enumerate() {
            self.queue.after(planned.at_ms * MILLISECOND, Event::Fault { part });
        }
    }

    pub(crate) fn shard_options(&self, node: u64, shard: u64) -> ShardOptions {
        let settings = &self.plan.cluster;
        ShardOptions {
            shard,
            directory: directory(shard),
            log: LogOptions {
                shard,
                segment_bytes: settings.segment_bytes,
                index_interval_bytes: 4 << 10,
                ..LogOptions::default()
            },
            group: GroupOptions {
                node,
                preferred: None,
                rotation: shard,
                election_ticks: settings.election_ticks,
                heartbeat_ticks: 1,
                busy_commits: 8,
                message_bytes_max: settings.message_bytes,
                inflight_messages_max: 16,
            },
            tick_ms: settings.tick_ms,
            seal_ticks: 0,
            // The metadata log is never trimmed.
            settings: self.placements.get(&shard).map(|it| it.retention.clone()).unwrap_or_default(),
        }
    }

    /// Lets things happen until `until`, or until a rule does not hold.
    pub fn run_until(&mut self, until: Time) {
        while self.violation.is_none() {
            let Some(event) = self.queue.next(until) else { break };
            self.stats.events += 1;
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { node, life } => self.tick(node, life),
            Event::Turn { node, life } => self.turn(node, life),
            Event::FreeSpace { node, life } => self.look_at_free_space(node, life),
            Event::Scrub { node, life } => self.scrub(node, life),
            Event::Disk { node, life, shard } => self.write(node, life, shard),
            Event::Job { node, life, job } => self.do_job(node, life, job),
            Event::Start { node } => self.start(node),
            Event::Peer { from, to, connection, frame } => self.peer_frame(from, to, connection, &frame),
            Event::PeerLost { node, life, lost } => self.peer_lost(node, life, lost),
            Event::PeerFound { node, life, found } => self.peer_found(node, life, found),
            Event::Request { connection, frame } => self.request(connection, frame),
            Event::Response { client, connection, frame } => {
                self.tell(client, Told::Frame { connection, frame });
            }
            Event::Closed { client, connection } => self.tell(client, Told::Closed { connection }),
            Event::Dialed { client, node, connection } => {
                let connection = connection.filter(|number| self.network.connection(*number).is_some());
                self.tell(client, Told::Dialed { node, connection });
            }
            Event::Deadline { node, life, token } => self.deadline(node, life, token),
            Event::Wake { client } => self.tell(client, Told::Time),
            Event::Fault { part } => self.begin_part(part),
            Event::FaultEnds { part } => self.end_part(part),
            Event::Moves => self.step_moves(),
            Event::Stopping { node, life } => self.go_on_stopping(node, life),
            Event::RollOn => self.roll_on(),
            Event::Broker { node, life } => self.broker_pass(node, life),
            Event::Errands => self.look_at_errands(),
            Event::Question { to, question } => self.take_question(to, *question),
            Event::Reply { to, number, reply } => self.take_reply(to, number, *reply),
        }
    }

    /// Ends the run, unless it has ended already.
    pub(crate) fn check(&mut self, checked: Result<(), Violation>) {
        if let Err(violation) = checked
            && self.violation.is_none()
        {
            let message = violation.message.clone();
            self.trace.note(self.queue.now(), None, violation.rule, [], || format!("VIOLATED: {message}"));
            self.violation = Some(violation);
        }
    }

    /// Ends the run with a breach of `rule`.
    pub(crate) fn violate(&mut self, rule: &'static str, message: String) {
        self.check(Err(Violation { rule, message }));
    }

    /// Whatever production's code says when it panics; the value if it did not.
    pub(crate) fn survived<T>(&mut self, node: u64, shard: u64, result: Result<T, Panicked>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Panicked(why)) => {
                self.violate("no-panic", format!("shard {shard} panicked on node {node}: {why}"));
                None
            }
        }
    }

    pub(crate) fn note<const N: usize>(
        &mut self,
        node: u64,
        what: &'static str,
        numbers: [u64; N],
        text: impl FnOnce() -> String,
    ) {
        self.trace.note(self.queue.now(), Some(node), what, numbers, text);
    }

    /// The node a part of the plan is about, as things stand.
    pub(crate) fn resolve(&self, target: Target) -> u64 {
        match target {
            Target::Node(node) => node,
            Target::Leader(partition) => self.leader(shard_of(partition)).unwrap_or(1),
        }
    }

    /// The node that leads a shard in the latest term.
    pub(crate) fn leader(&self, shard: u64) -> Option<u64> {
        let leads = |(id, node): (&u64, &Node)| {
            let view = node.process.as_ref()?.hosted.get(&shard)?.replica.view();
            view.is_leader.then_some((view.term, *id))
        };
        self.nodes.iter().filter_map(leads).max().map(|(_, node)| node)
    }

    // ---- Clients ----

    fn tell(&mut self, client: usize, told: Told) {
        let mut around = Surroundings {
            now: self.queue.now(),
            wishes: Vec::new(),
            ledger: &mut self.ledger,
            working: self.working,
            producer_ids: &mut self.producer_ids,
        };
        self.clients[client].act(told, &mut around);
        let wishes = around.wishes;
        if let Some(complaint) = self.clients[client].complaint() {
            let message = format!("client {client} was given what the consumer refuses: {complaint}");
            return self.violate("consumer-accepts", message);
        }
        for wish in wishes {
            match wish {
                Wish::WakeAt(at) => {
                    self.queue.after(at.saturating_sub(self.queue.now()), Event::Wake { client });
                }
                Wish::Dial(node) => self.dial(client, node),
                Wish::Send(connection, frame) => {
                    if self.network.connection(connection).is_some() {
                        self.network.send_request(connection, frame, &mut self.queue, &mut self.stats);
                    } else {
                        // The other side knows nothing of it, and says so if it is there at all.
                        self.queue.after(MILLISECOND, Event::Closed { client, connection });
                    }
                }
            }
        }
    }

    fn dial(&mut self, client: usize, node: u64) {
        let latency = 2 * self.network.latency(&mut self.stats);
        let open = self.network.is_open(CLIENTS, node) && self.network.is_open(node, CLIENTS);
        let there = &self.nodes[&node];
        let (after, connection) = match (&there.process, there.paused || !there.powered || !open) {
            (_, true) => (CONNECT_TIMEOUT, None),
            (None, false) => (latency, None),
            (Some(_), false) => (latency, Some(self.network.connect(client, node, there.life))),
        };
        self.queue.after(after, Event::Dialed { client, node, connection });
    }

    fn request(&mut self, connection: u64, frame: bytes::Bytes) {
        let Some(open) = self.network.connection(connection) else { return };
        let (id, life) = (open.node, open.life);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let paused = node.paused;
        let Some(process) = node.alive(life) else { return };
        if paused {
            return process.unread.push(crate::node::Unread { connection, frame });
        }
        let known = process.broker.as_ref().map(|broker| Arc::clone(broker.known()));
        let placements = known.as_deref().unwrap_or(&self.placements);
        let handled = server::handle(process, &self.plan, placements, connection, &frame);
        self.tell_of_damage_read(id);
        match handled {
            server::Handled::Answer(answer) => {
                self.network.send_response(connection, answer, &mut self.queue, &mut self.stats);
            }
            server::Handled::Later { token, give_up_ms } => {
                self.queue.after(give_up_ms * MILLISECOND, Event::Deadline { node: id, life, token });
                self.wake_worker(id);
            }
            server::Handled::Readers { shard, answer } => {
                if let Some(answer) = answer {
                    self.network.send_response(connection, answer, &mut self.queue, &mut self.stats);
                }
                self.wake_readers(id, shard);
            }
            server::Handled::Nothing => {}
            server::Handled::Close => {
                self.violate("frames-decode", format!("node {id} could not decode a client's frame"));
            }
        }
    }

    fn deadline(&mut self, id: u64, life: u64, token: u64) {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.alive(life)) else { return };
        let Some(asked) = process.asked.remove(&token) else { return };
        let answer = server::give_up(process, &asked);
        self.network.send_response(asked.connection, answer, &mut self.queue, &mut self.stats);
    }

    /// Everything that the clients of a dead process hear.
    pub(crate) fn close_clients(&mut self, node: u64, told: bool) {
        for (connection, client) in self.network.close_connections(node) {
            if told {
                let after = self.network.latency(&mut self.stats);
                self.queue.after(after, Event::Closed { client, connection });
            }
        }
    }

    /// A node's worker has something to do.
    pub(crate) fn wake_worker(&mut self, id: u64) {
        let now = self.queue.now();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (life, paused) = (node.life, node.paused);
        let Some(process) = node.process.as_mut() else { return };
        if !process.turn_due && !paused {
            process.turn_due = true;
            let after = process.busy_until.saturating_sub(now).max(MICROSECOND);
            self.queue.after(after, Event::Turn { node: id, life });
        }
    }
}
