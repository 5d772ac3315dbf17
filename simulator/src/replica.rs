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
pub struct Replica {
    replica: Box<replica::Replica>,
    /// Ticks that it has said will do nothing, if nothing else comes in. Production hands those over late.
    spare_ticks: u64,
}

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
            let opened = replica::Replica::open(disk, options, peers, random, outputs)?;
            Ok(Self { replica: Box::new(opened), spare_ticks: 0 })
        })
    }

    /// Hands it one input.
    ///
    /// # Errors
    /// It panicked.
    pub fn step(&mut self, input: impl Into<Input>, outputs: &mut Vec<Output>) -> Result<(), Panicked> {
        let input = input.into();
        let is_tick = matches!(input, Input::Shard(lockstep::shard::Input::Tick));
        let spare_ticks = if is_tick { self.replica.spare_ticks().max(self.spare_ticks) } else { 0 };
        let before = outputs.len();
        guarded(|| self.replica.step(input, outputs))?;
        if spare_ticks > 0 && (outputs.len() > before || self.replica.needs_turn()) {
            return Err(Panicked("a tick did something that was said to do nothing".to_owned()));
        }
        self.spare_ticks = spare_ticks.saturating_sub(1);
        self.caught(outputs)
    }

    /// Lets it take its turn.
    ///
    /// # Errors
    /// It panicked.
    pub fn turn(&mut self, now_ms: i64, outputs: &mut Vec<Output>) -> Result<(), Panicked> {
        guarded(|| self.replica.turn(now_ms, outputs))?;
        self.caught(outputs)
    }

    /// A panic inside the shard is caught by the replica, which then forgets all who wait.
    fn caught(&self, outputs: &[Output]) -> Result<(), Panicked> {
        if outputs.iter().any(|output| matches!(output, Output::Forget)) {
            return Err(Panicked(format!("{:?}", self.replica.describe().view.health)));
        }
        Ok(())
    }

    /// What everyone may know of it.
    pub fn view(&self) -> &ShardView {
        self.replica.view()
    }

    /// It in detail.
    pub fn describe(&self) -> ShardDescription {
        self.replica.describe()
    }

    /// All that it keeps of what its log says; empty while the log is not open.
    pub fn derived_state(&self) -> bytes::Bytes {
        self.replica.shard().map(|shard| shard.derived_state()).unwrap_or_default()
    }

    /// The index of the membership entry in force, and the members; nothing while the log is not open.
    pub fn membership(&self) -> Option<(u64, &Membership)> {
        self.replica.shard().map(|shard| (shard.membership_index(), shard.membership()))
    }

    /// What it has promised, if it may be deleted as a leader that knew this membership says; not while its log is not
    /// open.
    pub fn promised_if_dropped(&self, membership_index: u64) -> Option<Former> {
        let shard = self.replica.shard().filter(|shard| shard.may_be_dropped(membership_index))?;
        Some(shard.promised())
    }

    /// Its log, while it is open.
    pub fn log(&self) -> Option<&Log> {
        self.replica.shard().map(|shard| shard.log())
    }

    /// Reads of its log, and how far it knows by itself that they may go.
    pub fn reader(&self) -> Option<(LogReader, u64)> {
        self.replica.shard().map(|shard| (shard.reader(), shard.view().high_watermark))
    }
}

fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| Panicked(panic_message(&*panic).to_owned()))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
