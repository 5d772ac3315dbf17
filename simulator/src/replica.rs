//! The production code of one replica, as the simulator holds it. The one file that names its type.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lockstep::random::Random;
use lockstep::shard::{Input, OpenError, Output, Shard, ShardDescription, ShardOptions, ShardView};
use lockstep_storage::io::Disk;
use lockstep_storage::{Log, LogReader};

/// One replica: production's shard, its panics caught as production's shell catches them.
pub struct Replica(Box<Shard>);

/// An invariant of the production code broke.
#[derive(Debug)]
pub struct Panicked(pub String);

impl Replica {
    /// Recovers a replica from its disk.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: ShardOptions,
        random: Random,
        outputs: &mut Vec<Output>,
    ) -> Result<Result<Self, OpenError>, Panicked> {
        guarded(|| Shard::open(disk, options, random, outputs).map(|(shard, _)| Self(Box::new(shard))))
    }

    /// Hands it one input.
    pub fn step(&mut self, input: Input, outputs: &mut Vec<Output>) -> Result<(), Panicked> {
        guarded(|| self.0.step(input, outputs))
    }

    /// Lets it take its turn.
    pub fn turn(&mut self, now_ms: i64, outputs: &mut Vec<Output>) -> Result<(), Panicked> {
        guarded(|| self.0.turn(now_ms, outputs))
    }

    /// What everyone may know of it.
    pub fn view(&self) -> &ShardView {
        self.0.view()
    }

    /// It in detail.
    pub fn describe(&self) -> ShardDescription {
        self.0.describe()
    }

    /// All that it keeps of what its log says.
    pub fn derived_state(&self) -> bytes::Bytes {
        self.0.derived_state()
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        self.0.log()
    }

    /// Reads of its log.
    pub fn reader(&self) -> LogReader {
        self.0.reader()
    }
}

fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| Panicked(panic_message(&*panic).to_owned()))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
