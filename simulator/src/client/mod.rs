//! Clients: production's decisions about batches, retries and routes, over the simulated network.
//!
//! What holds: a client sees frames and the time, nothing else; what it was told goes into the ledger and is judged
//! there.

mod core;
mod question;
mod reader;
mod shown;
mod subscriber;
mod tail_reader;
mod writer;

use bytes::Bytes;
pub use reader::Reader;
pub use subscriber::Subscriber;
pub use tail_reader::TailReader;
pub use writer::{Writer, WriterKind};

use crate::ledger::Ledger;
use crate::plan::LoadSettings;
use crate::queue::Time;

/// What a client is told by the world.
pub enum Told {
    /// The time it asked to be woken at has come.
    Time,
    /// An attempt to connect ended.
    Dialed {
        /// To which node.
        node: u64,
        /// The connection, if there is one.
        connection: Option<u64>,
    },
    /// Bytes came.
    Frame {
        /// On which connection.
        connection: u64,
        /// The bytes.
        frame: Bytes,
    },
    /// A connection closed.
    Closed {
        /// Which.
        connection: u64,
    },
}

/// What a client wants done.
pub enum Wish {
    /// Connect to a node.
    Dial(u64),
    /// Send bytes on a connection.
    Send(u64, Bytes),
    /// Wake it at a time.
    WakeAt(Time),
}

/// What a client works with besides its own state.
pub struct Surroundings<'w> {
    /// What time it is.
    pub now: Time,
    /// What it does to the world.
    pub wishes: Vec<Wish>,
    /// Where its history goes.
    pub ledger: &'w mut Ledger,
    /// New work is still to be begun.
    pub working: bool,
    /// The next producer id.
    pub producer_ids: &'w mut i64,
}

/// Any client.
pub enum Client {
    /// It appends.
    Writer(Box<Writer>),
    /// It reads.
    Reader(Box<Reader>),
    /// It subscribes.
    Subscriber(Box<Subscriber>),
    /// It asks for the end of the log.
    TailReader(Box<TailReader>),
}

impl Client {
    /// Lets it act on what it is told.
    pub fn act(&mut self, told: Told, around: &mut Surroundings<'_>) {
        match self {
            Self::Writer(writer) => writer.act(told, around),
            Self::Reader(reader) => reader.act(told, around),
            Self::Subscriber(subscriber) => subscriber.act(told, around),
            Self::TailReader(reader) => reader.act(told, around),
        }
    }

    /// Whether it waits for nothing.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Writer(writer) => writer.is_done(),
            Self::Reader(_) | Self::Subscriber(_) | Self::TailReader(_) => true,
        }
    }

    /// What it saw that must not happen.
    pub fn complaint(&self) -> Option<&str> {
        match self {
            Self::Reader(reader) => reader.complaint(),
            Self::Subscriber(subscriber) => subscriber.complaint(),
            Self::Writer(_) | Self::TailReader(_) => None,
        }
    }
}

/// All clients of a plan.
pub fn of_plan(
    load: &LoadSettings,
    partitions: u32,
    nodes: u64,
    ledger: &mut Ledger,
    seed: u64,
) -> Vec<Client> {
    let mut random = lockstep::random::Random::new(seed ^ 0xC11E_17C0_DE00_0001);
    let mut clients = Vec::new();
    for partition in 0..partitions {
        let writers = [
            (WriterKind::Pipelined, load.pipelined),
            (WriterKind::Plain, load.plain),
            (WriterKind::Conditional, load.conditional),
            (WriterKind::Fenced, load.fenced),
            (WriterKind::Positioned, load.positioned),
        ];
        for (kind, count) in writers {
            for _ in 0..count {
                let writer = Writer::new(kind, partition, nodes, load.clone(), random.split(), ledger);
                clients.push(Client::Writer(Box::new(writer)));
            }
        }
        for random_place in (0..load.readers).map(|_| false).chain((0..load.random_readers).map(|_| true)) {
            let reader = Reader::new(random_place, partition, nodes, load.clone(), random.split(), ledger);
            clients.push(Client::Reader(Box::new(reader)));
        }
        for _ in 0..load.subscribers {
            let subscriber = Subscriber::new(partition, nodes, load.clone(), random.split(), ledger);
            clients.push(Client::Subscriber(Box::new(subscriber)));
        }
        for _ in 0..load.tail_readers {
            let reader = TailReader::new(partition, nodes, load.clone(), random.split(), ledger);
            clients.push(Client::TailReader(Box::new(reader)));
        }
    }
    clients
}
