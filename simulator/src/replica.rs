//! The production code of one replica, as the simulator holds it. The one file that names its type.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lockstep::raft::Membership;
use lockstep::random::Random;
use lockstep::replica;
pub use lockstep::replica::{Input, Job, Output};
use lockstep::shard::{Former, OpenError, ShardDescription, ShardOptions, ShardView};
use lockstep_storage::io::Disk;
use lockstep_storage::{Log, LogReader};

/// One replica, whatever state it is in.
pub struct Replica(Box<replica::Replica>);

/// An invariant of the production code broke.
#[derive(Debug)]
pub struct Panicked(pub String);

impl Replica {
    /// Recovers a replica from its disk; `peers` are the nodes that hold the others.
    ///
    /// # Errors
    /// It panicked, or (inside) there is nothing to open.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: ShardOptions,
        peers: Vec<u64>,
        random: Random,
        outputs: &mut Vec<Output>,
    ) -> Result<Result<Self, OpenError>, Panicked> {
        guarded(|| {
            replica::Replica::open(disk, options, peers, random, outputs).map(|opened| Self(Box::new(opened)))
        })
    }

    /// Hands it one input.
    ///
    /// # Errors
    /// It panicked.
    pub fn step(&mut self, input: impl Into<Input>, outputs: &mut Vec<Output>) -> Result<(), Panicked> {
        guarded(|| self.0.step(input.into(), outputs))?;
        self.caught(outputs)
    }

    /// Lets it take its turn.
    ///
    /// # Errors
    /// It panicked.
    pub fn turn(&mut self, now_ms: i64, outputs: &mut Vec<Output>) -> Result<(), Panicked> {
        guarded(|| self.0.turn(now_ms, outputs))?;
        self.caught(outputs)
    }

    /// A panic inside the shard is caught by the replica, which then forgets all who wait.
    fn caught(&self, outputs: &[Output]) -> Result<(), Panicked> {
        if outputs.iter().any(|output| matches!(output, Output::Forget)) {
            return Err(Panicked(format!("{:?}", self.0.describe().view.health)));
        }
        Ok(())
    }

    /// What everyone may know of it.
    pub fn view(&self) -> &ShardView {
        self.0.view()
    }

    /// It in detail.
    pub fn describe(&self) -> ShardDescription {
        self.0.describe()
    }

    /// All that it keeps of what its log says; empty while the log is not open.
    pub fn derived_state(&self) -> bytes::Bytes {
        self.0.shard().map(|shard| shard.derived_state()).unwrap_or_default()
    }

    /// The index of the membership entry in force, and the members; nothing while the log is not open.
    pub fn membership(&self) -> Option<(u64, &Membership)> {
        self.0.shard().map(|shard| (shard.membership_index(), shard.membership()))
    }

    /// What it has promised, if it may be deleted as a leader that knew this membership says; not while its log is not
    /// open.
    pub fn promised_if_dropped(&self, membership_index: u64) -> Option<Former> {
        let shard = self.0.shard().filter(|shard| shard.may_be_dropped(membership_index))?;
        Some(shard.promised())
    }

    /// Its log, while it is open.
    pub fn log(&self) -> Option<&Log> {
        self.0.shard().map(|shard| shard.log())
    }

    /// Reads of its log, and how far it knows by itself that they may go.
    pub fn reader(&self) -> Option<(LogReader, u64)> {
        self.0.shard().map(|shard| (shard.reader(), shard.view().high_watermark))
    }
}

fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| Panicked(panic_message(&*panic).to_owned()))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
