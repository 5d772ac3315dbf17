//! The network: what is sent arrives later, or never, or twice, or changed.
//!
//! What holds:
//! - Frames between two nodes keep their order unless the plan lets some overtake others. Repair counts on more: that
//!   all that a node sent before has arrived, or never will (`docs/decisions/0010`). So much is kept for its frames,
//!   as every connection keeps it for all.
//! - A connection that breaks loses what was on its way.
//! - Clients' connections keep their order and their bytes, as TCP does; they only stall and break.

use std::collections::BTreeMap;

use bytes::Bytes;
use lockstep::random::Random;

use crate::plan::{NetworkSettings, chance};
use crate::queue::{Event, MICROSECOND, Queue, Time};
use crate::stats::Stats;

/// Parts in a million.
const MILLION: u64 = 1_000_000;
/// What stands for the clients where a side of a link is named.
pub const CLIENTS: u64 = 0;

/// One direction between two nodes.
#[derive(Default)]
struct Link {
    /// How many faults cut it at the moment.
    cuts: u32,
    /// How many faults hold it back.
    clogs: u32,
    held: Vec<(u64, Bytes)>,
    /// Grows when the connection breaks.
    connection: u64,
    last_arrival: Time,
    /// The same of frames that were overtaken, and of repeats.
    latest_arrival: Time,
}

/// One connection of a client to a node's process.
pub struct ClientConnection {
    /// Which client.
    pub client: usize,
    /// Which node.
    pub node: u64,
    /// Which of its processes.
    pub life: u64,
    to_node: Time,
    to_client: Time,
}

/// Which way something goes on a client's connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToNode,
    ToClient,
}

/// All links.
pub struct Network {
    settings: NetworkSettings,
    random: Random,
    links: BTreeMap<(u64, u64), Link>,
    connections: BTreeMap<u64, ClientConnection>,
    /// What a partition keeps from arriving on clients' connections; TCP sends it again afterwards.
    stalled: Vec<(u64, Way, Bytes)>,
    next_connection: u64,
    /// No chance faults any more.
    calm: bool,
}

impl Network {
    /// A network without faults but those that its settings let happen by chance.
    pub fn new(settings: NetworkSettings, random: Random) -> Self {
        Self {
            settings,
            random,
            links: BTreeMap::new(),
            connections: BTreeMap::new(),
            stalled: Vec::new(),
            next_connection: 1,
            calm: false,
        }
    }

    /// From now on everything arrives, once and whole.
    pub fn calm(&mut self) {
        self.calm = true;
    }

    /// Sends a frame from one node to another; one that is `behind` arrives behind all that was sent before.
    pub fn send(
        &mut self,
        (from, to): (u64, u64),
        frame: Bytes,
        behind: bool,
        queue: &mut Queue,
        stats: &mut Stats,
    ) {
        let latency = self.latency(stats);
        let (lost, repeated) =
            (self.by_chance(self.settings.loss_ppm), self.by_chance(self.settings.repeat_ppm));
        let (reordered, damaged) =
            (self.by_chance(self.settings.reorder_ppm), self.by_chance(self.settings.damage_ppm));
        let link = self.links.entry((from, to)).or_default();
        if link.cuts > 0 {
            return;
        }
        if lost {
            return stats.fault("message-lost");
        }
        let frame = if damaged {
            stats.fault("message-damaged");
            flip_a_bit(&frame, &mut self.random)
        } else {
            frame
        };
        let connection = link.connection;
        if link.clogs > 0 {
            link.held.push((connection, frame));
            return;
        }
        let now = queue.now();
        let mut arrival = now + latency;
        if behind {
            arrival = arrival.max(link.latest_arrival + 1);
        }
        if reordered {
            stats.fault("message-reordered");
            arrival += latency * (1 + self.random.below(8));
        } else {
            arrival = arrival.max(link.last_arrival + 1);
            link.last_arrival = arrival;
        }
        if repeated {
            stats.fault("message-repeated");
            let again = arrival + latency * self.random.below(20);
            link.latest_arrival = link.latest_arrival.max(again);
            queue.after(again - now, Event::Peer { from, to, connection, frame: frame.clone() });
        }
        link.latest_arrival = link.latest_arrival.max(arrival);
        queue.after(arrival - now, Event::Peer { from, to, connection, frame });
    }

    /// Whether a frame that was sent over `connection` still arrives.
    pub fn arrives(&self, from: u64, to: u64, connection: u64) -> bool {
        self.links.get(&(from, to)).is_none_or(|link| link.cuts == 0 && link.connection == connection)
    }

    /// Cuts one direction, until [`Network::mend`].
    pub fn cut(&mut self, from: u64, to: u64) {
        self.links.entry((from, to)).or_default().cuts += 1;
    }

    /// Takes one cut back.
    pub fn mend(&mut self, from: u64, to: u64, queue: &mut Queue, stats: &mut Stats) {
        let link = self.links.entry((from, to)).or_default();
        link.cuts = link.cuts.saturating_sub(1);
        if link.cuts == 0 && (from == CLIENTS || to == CLIENTS) {
            for (number, way, frame) in std::mem::take(&mut self.stalled) {
                self.send_on(number, way, frame, queue, stats);
            }
        }
    }

    /// Holds back what goes in one direction, until [`Network::unclog`].
    pub fn clog(&mut self, from: u64, to: u64) {
        self.links.entry((from, to)).or_default().clogs += 1;
    }

    /// Lets all that was held back arrive at once.
    pub fn unclog(&mut self, from: u64, to: u64, queue: &mut Queue) {
        let link = self.links.entry((from, to)).or_default();
        link.clogs = link.clogs.saturating_sub(1);
        if link.clogs == 0 {
            let after = MICROSECOND.max((link.latest_arrival + 1).saturating_sub(queue.now()));
            for (connection, frame) in link.held.drain(..) {
                queue.after(after, Event::Peer { from, to, connection, frame });
            }
            link.latest_arrival = link.latest_arrival.max(queue.now() + after);
        }
    }

    /// Breaks the connection of one direction: what is on its way is lost.
    pub fn disconnect(&mut self, from: u64, to: u64) {
        let link = self.links.entry((from, to)).or_default();
        link.connection += 1;
        link.held.clear();
    }

    /// Whether the way from one side to the other is open; [`CLIENTS`] stands for all clients.
    pub fn is_open(&self, from: u64, to: u64) -> bool {
        self.links.get(&(from, to)).is_none_or(|link| link.cuts == 0)
    }

    // ---- Clients ----

    /// Opens a connection of a client to a node's process; returns its number.
    pub fn connect(&mut self, client: usize, node: u64, life: u64) -> u64 {
        let number = self.next_connection;
        self.next_connection += 1;
        self.connections.insert(number, ClientConnection { client, node, life, to_node: 0, to_client: 0 });
        number
    }

    /// A connection, while it is open.
    pub fn connection(&self, number: u64) -> Option<&ClientConnection> {
        self.connections.get(&number)
    }

    /// Closes all connections of a node's process; returns them with their clients.
    pub fn close_connections(&mut self, node: u64) -> Vec<(u64, usize)> {
        let of_node = |(_, connection): &(&u64, &ClientConnection)| connection.node == node;
        let closed: Vec<(u64, usize)> =
            self.connections.iter().filter(of_node).map(|(number, c)| (*number, c.client)).collect();
        self.connections.retain(|_, connection| connection.node != node);
        closed
    }

    /// Sends a client's bytes.
    pub fn send_request(&mut self, number: u64, frame: Bytes, queue: &mut Queue, stats: &mut Stats) {
        self.send_on(number, Way::ToNode, frame, queue, stats);
    }

    /// Sends a node's bytes to a client.
    pub fn send_response(&mut self, number: u64, frame: Bytes, queue: &mut Queue, stats: &mut Stats) {
        self.send_on(number, Way::ToClient, frame, queue, stats);
    }

    fn send_on(&mut self, number: u64, way: Way, frame: Bytes, queue: &mut Queue, stats: &mut Stats) {
        let latency = self.latency(stats);
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let (node, client) = (connection.node, connection.client);
        let (link, last) = match way {
            Way::ToNode => ((CLIENTS, node), &mut connection.to_node),
            Way::ToClient => ((node, CLIENTS), &mut connection.to_client),
        };
        if self.links.get(&link).is_some_and(|link| link.cuts > 0) {
            return self.stalled.push((number, way, frame));
        }
        *last = (queue.now() + latency).max(*last + 1);
        let event = match way {
            Way::ToNode => Event::Request { connection: number, frame },
            Way::ToClient => Event::Response { client, connection: number, frame },
        };
        queue.after(*last - queue.now(), event);
    }

    /// How long the next message takes.
    pub fn latency(&mut self, stats: &mut Stats) -> Time {
        let NetworkSettings { latency_us_min, latency_us_max, spike_ppm, .. } = self.settings;
        let usual = latency_us_min * MICROSECOND
            + self.random.below((latency_us_max - latency_us_min) * MICROSECOND + 1);
        if self.by_chance(spike_ppm) {
            stats.fault("delay-spike");
            return usual * (10 + self.random.below(90));
        }
        usual
    }

    fn by_chance(&mut self, ppm: u64) -> bool {
        ppm > 0 && !self.calm && chance(&mut self.random, ppm, MILLION)
    }
}

fn flip_a_bit(frame: &Bytes, random: &mut Random) -> Bytes {
    let mut bytes = frame.to_vec();
    let at = random.below(bytes.len() as u64) as usize;
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
    bytes.into()
}
