//! What every client has: connections, a routing table, and the way from a target to a connection.
//!
//! Routes are production's ([`RoutingTable`]); asking for metadata and dialling, which production does with sockets,
//! are done here in the same order.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lockstep_client::jitter::SplitMix;
use lockstep_client::retry::{Failure, Repeat, Retry, RetryPolicy};
use lockstep_client::routing::RoutingTable;
use lockstep_client::sans_io::Target;
use lockstep_protocol::native::{MetadataRequest, MetadataResponse};
use lockstep_protocol::{EncodedFrame, Frame, FrameDecoder, Message, Outcome, Wire};

use super::{Surroundings, Told, Wish};
use crate::plan::LoadSettings;
use crate::queue::{MILLISECOND, Time};
use crate::server::{FRAME_BYTES_MAX, TOPIC};

/// A connection to a node.
pub type Connected = (u64, u64);

/// Why there is none: the node, if one was chosen, and how it failed.
pub type NotConnected = (Option<u64>, Failure);

/// Where the way to a connection stands.
#[derive(Debug)]
enum Way {
    /// Nobody is on it.
    Free,
    /// A node is being dialled, to send a request there.
    Dialing(u64),
    /// That failed.
    Unreachable(u64),
    /// Metadata is being asked for; so many nodes did not answer.
    Refreshing { failed: usize, from: u64, correlation: Option<u32>, deadline: Time },
    /// Metadata came, or nobody had any.
    Refreshed(Option<Failure>),
}

/// The common part of a client.
pub struct Core {
    /// How it behaves.
    pub load: LoadSettings,
    nodes: u64,
    /// What it has heard of the cluster.
    pub routing: RoutingTable,
    /// Its randomness for back-off.
    pub jitter: SplitMix,
    open: BTreeMap<u64, u64>,
    next_correlation: u32,
    way: Way,
    wake_at: Time,
}

/// What of the news concerns the client itself.
pub enum News {
    /// A frame that answers one of its requests.
    Answer(Frame),
    /// A connection is gone.
    Lost(u64),
    /// Nothing more.
    Nothing,
}

impl Core {
    /// A client that knows that nodes 1 to `nodes` exist.
    pub fn new(nodes: u64, load: LoadSettings, seed: u64) -> Self {
        Self {
            load,
            nodes,
            routing: RoutingTable::default(),
            jitter: SplitMix::new(seed),
            open: BTreeMap::new(),
            next_correlation: 1,
            way: Way::Free,
            wake_at: Time::MAX,
        }
    }

    /// Where it stands, for people.
    pub fn state(&self) -> String {
        format!("{:?}, wakes at {}, connected to {:?}", self.way, self.wake_at, self.open)
    }

    /// A span since the run began, as production's code wants it.
    pub fn clock(now: Time) -> Duration {
        Duration::from_nanos(now)
    }

    /// Begins the attempts at something.
    pub fn retry(&self, repeat: Repeat, now: Time) -> Retry {
        let policy = RetryPolicy {
            first_delay: Duration::from_millis(20),
            max_delay: Duration::from_millis(200),
            budget: Duration::from_millis(self.load.retry_budget_ms),
        };
        Retry::new(policy, repeat, Self::clock(now))
    }

    /// How long an answer may take.
    pub fn request_timeout(&self) -> Time {
        self.load.request_timeout_ms * MILLISECOND
    }

    /// Asks to be woken at `at`, unless that is so already.
    pub fn wake_at(&mut self, at: Time, around: &mut Surroundings<'_>) {
        let at = at.max(around.now + 1);
        if at < self.wake_at {
            self.wake_at = at;
            around.wishes.push(Wish::WakeAt(at));
        }
    }

    /// Takes over what is about connections and metadata.
    pub fn hear(&mut self, told: Told, around: &mut Surroundings<'_>) -> News {
        match told {
            Told::Time => {
                if around.now >= self.wake_at {
                    self.wake_at = Time::MAX;
                }
                News::Nothing
            }
            Told::Dialed { node, connection } => {
                match connection {
                    Some(connection) => drop(self.open.insert(node, connection)),
                    None => drop(self.open.remove(&node)),
                }
                self.dialed(node, connection.is_some(), around);
                News::Nothing
            }
            Told::Closed { connection } => {
                self.open.retain(|_, open| *open != connection);
                if let Way::Refreshing { failed, from, correlation: Some(_), .. } = self.way
                    && !self.open.contains_key(&from)
                {
                    self.ask_metadata(failed + 1, around);
                }
                News::Lost(connection)
            }
            Told::Frame { frame, .. } => {
                let decoded = FrameDecoder::new(FRAME_BYTES_MAX).decode(&mut BytesMut::from(&frame[..]));
                let Ok(Some(frame)) = decoded else { return News::Nothing };
                match &self.way {
                    Way::Refreshing { correlation: Some(asked), failed, .. }
                        if *asked == frame.correlation =>
                    {
                        let failed = *failed;
                        self.learn(&frame, failed, around);
                        News::Nothing
                    }
                    _ => News::Answer(frame),
                }
            }
        }
    }

    fn dialed(&mut self, node: u64, connected: bool, around: &mut Surroundings<'_>) {
        match self.way {
            Way::Dialing(wanted) if wanted == node => {
                self.way = if connected { Way::Free } else { Way::Unreachable(node) };
            }
            Way::Refreshing { failed, from, correlation: None, .. } if from == node => {
                if connected {
                    self.ask_metadata(failed, around);
                } else {
                    self.ask_metadata(failed + 1, around);
                }
            }
            _ => {}
        }
    }

    fn learn(&mut self, frame: &Frame, failed: usize, around: &mut Surroundings<'_>) {
        let Ok(Ok(answer)) = Outcome::<MetadataResponse>::decode(&frame.meta) else {
            return self.ask_metadata(failed + 1, around);
        };
        self.routing.learn_nodes(&answer);
        for topic in answer.topics.iter().flatten() {
            self.routing.learn_topic(topic);
        }
        self.way = Way::Refreshed(None);
    }

    /// Asks for metadata before the next request leaves, whatever is known.
    pub fn refresh(&mut self, around: &mut Surroundings<'_>) {
        if matches!(self.way, Way::Free) {
            self.ask_metadata(0, around);
        }
    }

    /// A connection to the target's broker; `None` while it is on its way. Call again at every news.
    pub fn route(
        &mut self,
        target: Target<'_>,
        attempt: u32,
        around: &mut Surroundings<'_>,
    ) -> Option<Result<Connected, NotConnected>> {
        match std::mem::replace(&mut self.way, Way::Free) {
            Way::Free => {}
            Way::Unreachable(node) => return Some(Err((Some(node), Failure::Unreachable))),
            Way::Refreshed(Some(failure)) => return Some(Err((None, failure))),
            Way::Refreshed(None) => {
                if self.known(target, attempt).is_none() {
                    return Some(Err((None, Failure::NoRoute)));
                }
            }
            Way::Refreshing { failed, deadline, .. } if around.now >= deadline => {
                self.ask_metadata(failed + 1, around);
                return None;
            }
            under_way @ (Way::Dialing(_) | Way::Refreshing { .. }) => {
                if let Way::Refreshing { deadline, .. } = under_way {
                    self.wake_at(deadline, around);
                }
                self.way = under_way;
                return None;
            }
        }
        let Some(node) = self.known(target, attempt) else {
            self.ask_metadata(0, around);
            return None;
        };
        if let Some(connection) = self.open.get(&node) {
            return Some(Ok((node, *connection)));
        }
        self.way = Way::Dialing(node);
        around.wishes.push(Wish::Dial(node));
        None
    }

    fn known(&self, target: Target<'_>, attempt: u32) -> Option<u64> {
        match target {
            Target::Leader(topic, partition) => self.routing.leader(topic, partition).map(|(node, _)| node),
            Target::Replica(topic, partition, preferred) => self
                .routing
                .replica_for_read(topic, partition, preferred, attempt as usize)
                .map(|(node, _)| node),
            Target::Node(node) => Some(node),
            Target::Controller => self.routing.controller().map(|(node, _)| node),
            Target::Any => None,
        }
    }

    /// Asks the next node for metadata, after `failed` did not answer.
    fn ask_metadata(&mut self, failed: usize, around: &mut Surroundings<'_>) {
        if failed as u64 >= self.nodes {
            self.way = Way::Refreshed(Some(Failure::Unreachable));
            return self.wake_at(around.now, around);
        }
        let first = lockstep_client::jitter::Jitter::next(&mut self.jitter) % self.nodes;
        let from = match self.way {
            Way::Refreshing { from, .. } if failed > 0 => from % self.nodes + 1,
            Way::Refreshing { from, .. } => from,
            _ => first + 1,
        };
        let deadline = around.now + self.request_timeout();
        let correlation = match self.open.get(&from).copied() {
            Some(connection) => {
                let request = MetadataRequest { topics: Some(vec![TOPIC.to_owned()]), create_missing: false };
                Some(self.send(connection, &request, Vec::new(), around))
            }
            None => {
                around.wishes.push(Wish::Dial(from));
                None
            }
        };
        self.way = Way::Refreshing { failed, from, correlation, deadline };
        self.wake_at(deadline, around);
    }

    /// Sends a request; returns what its answer is known by.
    pub fn send<M: Message>(
        &mut self,
        connection: u64,
        request: &M,
        payload: Vec<Bytes>,
        around: &mut Surroundings<'_>,
    ) -> u32 {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        let frame = EncodedFrame::request(correlation, request, payload).to_bytes();
        around.wishes.push(Wish::Send(connection, frame));
        correlation
    }
}
