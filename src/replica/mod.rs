//! One replica of a shard for as long as its broker runs: opened, running, stopped by its disk, repaired, and opened
//! again. Synchronous and deterministic like the [`Shard`] it wraps; production and the simulator both wrap it.
//!
//! ```text
//!            ┌────────── open ◄─────────────── pause ◄──────────┐
//!            ▼                                                  │ a write or sync failed, an invariant broke
//!         running ──────────────────────────────────────────────┘
//!            │ something is missing or damaged that was synced; a leader hands over first
//!            ▼
//!         repairing (no Raft node, no vote, no acknowledgement) ──► open
//! ```
//!
//! What holds here:
//! - A log instance that failed takes nothing more; what follows is a recovery from its files, by a new instance, and
//!   only once its last write has returned.
//! - What everyone may know of the replica never goes back: neither the high watermark nor the log start. Until a log
//!   that was opened again has caught up with what readers were shown, they read from the one before.
//! - A faulty replica is marked before anything is done about it but a hand-over; see [`repair`] for the way back.
//! - A leader that finds damage appends nothing more and answers nobody who waits for it. It leads on only to hand over, for an
//!   election timeout at the most, and is gone before a vote of its own for the next leader leaves.
//! - Whatever its state, it tells its peers what it knows and gives them what it has intact.

mod job;
mod mark;
mod peers;
mod repair;
mod types;

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use lockstep_planted::{self as planted, Bug};
use lockstep_storage::{LogReader, ReadError, RecoveryError, RecoveryReport, io::Disk};

pub use job::{Done, Job};
pub use mark::{Loss, Mark};
pub use peers::standing_without_replica;
pub use types::{Input, Output};

use crate::{
    random::Random,
    shard::{self, Health, OpenError, Shard, ShardDescription, ShardId, ShardOptions, ShardView, Token},
};
use job::{Outcome, Place, Work};
use repair::{Around, Repair};

/// Tokens from here on are this module's own.
const OWN_TOKENS: Token = 1 << 63;
/// Openings that cannot read what the disk holds, one after the other, until that counts as damage.
const UNREADABLE_MAX: u64 = 3;
/// The pauses before a stopped log is opened again, in election timeouts: doubled after each, up to the last.
const PAUSE_TIMEOUTS: (u64, u64) = (1, 64);

/// Room for this many outputs of the shard stays with a replica between its turns.
const ASKED_KEPT_MAX: usize = 64;

/// One replica, whatever state it is in.
pub struct Replica {
    place: Place,
    peers: Vec<u64>,
    random: Random,
    state: State,
    /// What everyone may know, as last told.
    view: ShardView,
    /// Room for what the shard asks for; empty between turns.
    asked: Vec<shard::Output>,
    /// The log's reader is to be told of, once the log has caught up with what was shown before.
    reader_due: bool,
    /// A write group is out; perhaps that of a log that is closed already.
    writing: bool,
    disk_full: bool,
    ticks: u64,
    /// What is damaged, while this leader hands over because of it.
    leaving: Option<String>,
    /// The tick of the last opening, and the pause before the next, in election timeouts.
    opened_at: u64,
    pause: u64,
    /// Who asked how this leader stands, by token.
    standings: BTreeMap<Token, (u64, u64)>,
    next_token: Token,
    /// What was synced by the instance of the log that ended last, until another one is seen to have it.
    synced_index: u64,
    jobs: Jobs,
    /// Openings since the last that could read everything.
    unreadable: u64,
}

/// The jobs that are out. What an earlier one brings when nobody waits for it any more changes nothing.
#[derive(Default)]
struct Jobs {
    last: u64,
    /// The job that opens the log.
    opening: u64,
    /// Cold reads before this one were asked for by an instance of the log that is gone.
    instance: u64,
}

enum State {
    Running(Box<Shard>),
    Stopped { health: Health, until: u64 },
    Opening(Health),
    Repairing(Box<Repair>),
}

impl Replica {
    /// Opens a replica whose files should be here. A damaged one is returned too: it is repaired from `peers`, the
    /// nodes that hold the others. Blocks.
    ///
    /// # Errors
    /// What is here is not this shard's log, or cannot be read by this version, or the disk does not answer.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: ShardOptions,
        peers: Vec<u64>,
        mut random: Random,
        outputs: &mut Vec<Output>,
    ) -> Result<Self, OpenError> {
        let shard = options.shard;
        let mark = Mark::read(&*disk, &options.directory)
            .map_err(|error| OpenError::Content { shard, why: error.to_string() })?;
        let place = Place { disk: Arc::clone(&disk), options: options.clone() };
        let mark = mark.filter(|_| !planted::is_active(Bug::ForgetMark));
        let opened = match mark {
            Some(mark) => Err((Some(mark.loss), mark.why)),
            None => match job::open(disk, options, random.split()) {
                Ok(opened) => Ok(opened),
                Err(error) => match loss_of(&error, 0) {
                    None if !is_unreadable(&error) => return Err(error),
                    loss => Err((loss, error.to_string())),
                },
            },
        };
        let health = Health::Failed("it is being opened".into());
        let mut replica = Self {
            place,
            peers,
            random,
            state: State::Opening(health),
            view: ShardView::default(),
            asked: Vec::new(),
            reader_due: false,
            writing: false,
            disk_full: false,
            ticks: 0,
            leaving: None,
            opened_at: 0,
            pause: PAUSE_TIMEOUTS.0,
            standings: BTreeMap::new(),
            next_token: OWN_TOKENS,
            synced_index: 0,
            jobs: Jobs::default(),
            unreadable: 0,
        };
        match opened {
            Ok(opened) => replica.opened(opened, outputs),
            Err((Some(loss), why)) => replica.repair(loss, why, outputs),
            Err((None, why)) => {
                replica.unreadable = 1;
                replica.stopped(Health::Failed(why));
            }
        }
        replica.publish(outputs);
        Ok(replica)
    }

    /// A replica of this shard was here before, in this run of the process, and showed so much: what everyone may know does
    /// not go back, though the files began anew. To be called right after [`Replica::open`], with what that asked for.
    pub fn go_on_from(&mut self, shown: &ShardView, outputs: &mut Vec<Output>) {
        self.view.high_watermark = self.view.high_watermark.max(shown.high_watermark);
        self.view.log_start = self.view.log_start.max(shown.log_start);
        self.view.leader_time_ms = self.view.leader_time_ms.max(shown.leader_time_ms);
        self.reader_due = self.shard().is_some();
        outputs.retain(|output| !matches!(output, Output::Reader(_) | Output::View(_)));
        outputs.push(Output::View(self.view.clone()));
        self.publish(outputs);
    }

    /// What committed records are read from; nothing while that would show less than was shown before.
    pub fn reader(&self) -> Option<LogReader> {
        self.shard().filter(|_| !self.reader_due).map(Shard::reader)
    }

    /// Its shard's id.
    pub fn id(&self) -> ShardId {
        self.place.options.shard
    }

    /// What everyone may know of it, as of the last turn.
    pub fn view(&self) -> &ShardView {
        &self.view
    }

    /// The shard, while it runs.
    pub fn shard(&self) -> Option<&Shard> {
        match &self.state {
            State::Running(shard) => Some(shard),
            _ => None,
        }
    }

    /// Whether a write group is out.
    pub fn is_writing(&self) -> bool {
        self.writing
    }

    /// It in detail.
    pub fn describe(&self) -> ShardDescription {
        let told = match &self.state {
            State::Running(shard) => return ShardDescription { view: self.view.clone(), ..shard.describe() },
            _ => self.view.clone(),
        };
        ShardDescription { shard: self.id(), view: told, ..ShardDescription::default() }
    }

    /// Takes one input in. Its consequences come with the next [`Replica::turn`].
    pub fn step(&mut self, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::Shard(input) => self.step_shard(input, outputs),
            Input::Repair { from, number, message } => self.about_repair(from, number, message, outputs),
            Input::Peers(peers) => self.peers = peers,
            Input::Done(Done { number, outcome }) => self.done(number, outcome, outputs),
            Input::Damaged(why) => self.damaged(why, outputs),
        }
    }

    /// Whether a turn would do anything after a tick.
    pub fn needs_turn(&self) -> bool {
        match &self.state {
            State::Running(shard) => shard.needs_turn() || self.leaving.is_some() || self.reader_due,
            _ => true,
        }
    }

    /// How many of the next ticks do nothing, if nothing else comes in: they may be handed over late.
    pub fn spare_ticks(&self) -> u64 {
        match &self.state {
            State::Running(shard) if self.leaving.is_none() && !self.writing && !self.reader_due => {
                shard.spare_ticks()
            }
            _ => 0,
        }
    }

    /// Does all there is to do.
    pub fn turn(&mut self, now_ms: i64, outputs: &mut Vec<Output>) {
        self.leave_once_handed_over(outputs);
        self.guarded(outputs, |shard, asked| shard.turn(now_ms, asked));
        let health = self.shard().map(|shard| shard.view().health.clone());
        match health {
            Some(Health::Faulty(why)) => self.repair(Loss::Tail, why, outputs),
            Some(Health::Failed(why)) if self.leaving.is_none() => self.stopped(Health::Failed(why)),
            _ => self.leave_once_handed_over(outputs),
        }
        self.publish(outputs);
    }

    // ---- What comes in ----

    fn step_shard(&mut self, input: shard::Input, outputs: &mut Vec<Output>) {
        match &input {
            shard::Input::Tick => self.tick(outputs),
            shard::Input::DiskFull(full) => self.disk_full = *full,
            shard::Input::Synced(_) => self.writing = false,
            shard::Input::Settings(settings) => self.place.options.settings = settings.clone(),
            _ => {}
        }
        if let State::Running(_) = self.state {
            return self.guarded(outputs, |shard, asked| shard.step(input, asked));
        }
        if let Some(token) = shard::token_of(&input) {
            outputs.push(Output::Answer(token, Err(shard::refusal_of(&self.health()))));
        }
    }

    fn tick(&mut self, outputs: &mut Vec<Output>) {
        self.ticks += 1;
        let may_read = !self.writing;
        match &self.state {
            State::Stopped { health, until } if self.ticks >= *until && may_read && !self.disk_full => {
                self.state = State::Opening(health.clone());
                self.begin_opening(outputs);
            }
            State::Repairing(_) => self.with_repair(outputs, |repair, around| repair.tick(may_read, around)),
            State::Running(_) if self.ticks - self.opened_at > 2 * self.pause * self.timeout() => {
                self.pause = PAUSE_TIMEOUTS.0;
            }
            _ => {}
        }
    }

    fn done(&mut self, number: u64, outcome: Outcome, outputs: &mut Vec<Output>) {
        match outcome {
            Outcome::Served { to, number, message, damage } => {
                outputs.push(Output::Repair { to, number, message });
                if let Some(why) = damage.filter(|_| number >= self.jobs.instance) {
                    self.damaged(why, outputs);
                }
            }
            Outcome::ColdRead { .. } if number < self.jobs.instance => {}
            Outcome::ColdRead { id, entries } => {
                let damage = match &entries {
                    Err(ReadError::Damaged(damage)) => Some(damage.to_string()),
                    _ => None,
                };
                self.step_shard(shard::Input::ColdRead { id, entries: entries.ok() }, outputs);
                if let Some(why) = damage {
                    self.damaged(why, outputs);
                }
            }
            Outcome::Opened(_) if number != self.jobs.opening => {}
            Outcome::Opened(Ok(opened)) => self.opened(opened, outputs),
            Outcome::Opened(Err(error)) => match self.loss_at(&error) {
                Some(loss) => self.repair(loss, error.to_string(), outputs),
                None => self.stopped(Health::Failed(error.to_string())),
            },
            Outcome::Panicked(_) if self.is_of_the_past(number) => {}
            Outcome::Panicked(why) if !matches!(self.state, State::Repairing(_)) => {
                let why = format!("an invariant broke: {why}");
                self.guarded(outputs, |shard, asked| shard.stop(Health::Failed(why.clone()), asked));
                self.stopped(Health::Failed(why));
            }
            outcome => {
                let mut repaired = false;
                self.with_repair(outputs, |repair, around| repaired = repair.done(number, outcome, around));
                if repaired {
                    self.state = State::Opening(self.health());
                    self.begin_opening(outputs);
                }
            }
        }
    }

    /// Whether a job was of an instance that has ended. A repair knows its own.
    fn is_of_the_past(&self, number: u64) -> bool {
        match &self.state {
            State::Running(_) => number < self.jobs.instance,
            State::Opening(_) => number != self.jobs.opening,
            State::Stopped { .. } => true,
            State::Repairing(_) => false,
        }
    }

    // ---- From state to state ----

    fn opened(&mut self, opened: job::Opened, outputs: &mut Vec<Output>) {
        let (shard, mut asked, report): (_, Vec<shard::Output>, RecoveryReport) = *opened;
        self.synced_index = 0;
        self.reader_due = true;
        self.jobs.instance = self.jobs.last + 1;
        self.opened_at = self.ticks;
        self.unreadable = 0;
        self.state = State::Running(Box::new(shard));
        outputs.push(Output::Recovered(report));
        self.carry_out(&mut asked, outputs);
        let settings = self.place.options.settings.clone();
        self.step_shard(shard::Input::Settings(settings), outputs);
        self.step_shard(shard::Input::DiskFull(self.disk_full), outputs);
    }

    /// What is lost where the log cannot be opened again. What cannot be read again and again is damage too, and in the
    /// segment that the log ends in nobody knows where; without peers there is nothing for it but to try on.
    fn loss_at(&mut self, error: &OpenError) -> Option<Loss> {
        let OpenError::Recovery(RecoveryError::Unreadable { holds_end, .. }) = error else {
            self.unreadable = 0;
            return loss_of(error, self.synced_index);
        };
        self.unreadable += 1;
        let is_damage = self.unreadable >= UNREADABLE_MAX && !self.peers.is_empty();
        let synced_index = self.synced_index;
        is_damage.then_some(if *holds_end { Loss::Tail } else { Loss::Holes { synced_index } })
    }

    /// The log takes nothing more; it is opened again after a pause, and must reach as far then as it had been synced.
    fn stopped(&mut self, health: Health) {
        if let State::Running(shard) = &self.state {
            self.synced_index = shard.synced_index();
        }
        let until = self.ticks + self.pause * self.timeout();
        self.pause = (2 * self.pause).min(PAUSE_TIMEOUTS.1);
        self.standings.clear();
        // The scrub finds it again in the log that is opened next.
        self.leaving = None;
        self.state = State::Stopped { health, until };
    }

    /// Stored bytes have changed: what is intact has to be told from what is not. A leader lets somebody else lead first.
    fn damaged(&mut self, why: String, outputs: &mut Vec<Output>) {
        // Until readers read this instance, what they report is of one before, whose files were written anew since.
        if self.reader_due || self.leaving.is_some() || self.shard().is_none() {
            return;
        }
        self.guarded(outputs, |shard, asked| shard.hand_over(asked));
        self.leaving = Some(why);
        self.leave_once_handed_over(outputs);
    }

    /// Ends the life of a damaged log, unless it leads on for a moment to hand over.
    fn leave_once_handed_over(&mut self, outputs: &mut Vec<Output>) {
        if self.shard().is_none_or(Shard::is_handing_over) {
            return;
        }
        let Some(why) = self.leaving.take() else { return };
        let synced_index = self.shard().map_or(0, Shard::synced_index);
        let health = Health::Faulty(why.clone());
        self.guarded(outputs, |shard, asked| shard.stop(health, asked));
        self.repair(Loss::Holes { synced_index }, why, outputs);
    }

    fn repair(&mut self, loss: Loss, why: String, outputs: &mut Vec<Output>) {
        self.standings.clear();
        self.leaving = None;
        let mut pause = 0;
        if self.opened_at > 0 && self.ticks - self.opened_at <= self.pause * self.timeout() {
            pause = self.pause;
            self.pause = (2 * self.pause).min(PAUSE_TIMEOUTS.1);
        }
        self.synced_index = 0;
        let mut around = Around {
            place: &self.place,
            peers: &self.peers,
            tick: self.ticks,
            timeout: self.place.options.group.election_ticks as u64,
            random: &mut self.random,
            last_job: &mut self.jobs.last,
            outputs,
        };
        self.state = State::Repairing(Box::new(Repair::begin(Mark { loss, why }, pause, &mut around)));
    }

    fn with_repair(&mut self, outputs: &mut Vec<Output>, act: impl FnOnce(&mut Repair, &mut Around<'_>)) {
        let timeout = self.timeout();
        let State::Repairing(repair) = &mut self.state else { return };
        let mut around = Around {
            place: &self.place,
            peers: &self.peers,
            tick: self.ticks,
            timeout,
            random: &mut self.random,
            last_job: &mut self.jobs.last,
            outputs,
        };
        act(repair, &mut around);
    }

    /// Runs the shard's code. A panic ends this instance and no other: what it knew is in its log, and recovery reads it.
    fn guarded(&mut self, outputs: &mut Vec<Output>, run: impl FnOnce(&mut Shard, &mut Vec<shard::Output>)) {
        let State::Running(shard) = &mut self.state else { return };
        let mut asked = std::mem::take(&mut self.asked);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(shard, &mut asked))) {
            asked.retain(|output| matches!(output, shard::Output::Write(_)));
            self.stopped(Health::Failed(format!("an invariant broke: {}", panic_message(&*panic))));
            outputs.push(Output::Forget);
        }
        self.carry_out(&mut asked, outputs);
        if asked.capacity() <= ASKED_KEPT_MAX {
            self.asked = asked;
        }
    }

    fn carry_out(&mut self, asked: &mut Vec<shard::Output>, outputs: &mut Vec<Output>) {
        for output in asked.drain(..) {
            match output {
                shard::Output::Send(message) => outputs.push(Output::Send(message)),
                shard::Output::Write(group) => {
                    self.writing = true;
                    outputs.push(Output::Write(group));
                }
                shard::Output::ColdRead(read, reader) => self.run(Work::ColdRead(read, reader), outputs),
                shard::Output::Answer(token, answer) if token >= OWN_TOKENS => {
                    self.stood(token, answer, outputs);
                }
                shard::Output::Answer(token, answer) => outputs.push(Output::Answer(token, answer)),
                shard::Output::View(_) => {}
                shard::Output::Event(event) => outputs.push(Output::Event(event)),
            }
        }
    }

    fn begin_opening(&mut self, outputs: &mut Vec<Output>) {
        let (random, synced_index) = (self.random.split(), self.synced_index);
        self.run(Work::Open { random, synced_index }, outputs);
        self.jobs.opening = self.jobs.last;
    }

    fn run(&mut self, work: Work, outputs: &mut Vec<Output>) {
        self.jobs.last += 1;
        outputs.push(Output::Job(Job { place: self.place.clone(), number: self.jobs.last, work }));
    }

    // ---- What is told ----

    fn health(&self) -> Health {
        match &self.state {
            State::Running(shard) => match &self.leaving {
                Some(why) => Health::Faulty(format!("{why} (handing leadership over)")),
                None => shard.view().health.clone(),
            },
            State::Stopped { health, .. } | State::Opening(health) => health.clone(),
            State::Repairing(repair) => Health::Faulty(repair.status()),
        }
    }

    fn publish(&mut self, outputs: &mut Vec<Output>) {
        let told = &self.view;
        let view = match &self.state {
            State::Running(shard) => {
                let now = shard.view();
                if self.reader_due && now.high_watermark >= told.high_watermark {
                    self.reader_due = false;
                    outputs.push(Output::Reader(shard.reader()));
                }
                ShardView {
                    high_watermark: now.high_watermark.max(told.high_watermark),
                    log_start: now.log_start.max(told.log_start),
                    leader_time_ms: now.leader_time_ms.max(told.leader_time_ms),
                    health: self.health(),
                    ..now.clone()
                }
            }
            _ => ShardView { health: self.health(), is_leader: false, leader: None, ..told.clone() },
        };
        if view != self.view {
            self.view = view.clone();
            outputs.push(Output::View(view));
        }
    }

    fn timeout(&self) -> u64 {
        self.place.options.group.election_ticks as u64
    }
}

/// What is lost where a log cannot be opened that had been synced so far; `None` if that is not the reason.
fn loss_of(error: &OpenError, synced_index: u64) -> Option<Loss> {
    match error {
        OpenError::Recovery(RecoveryError::Faulty(_) | RecoveryError::VoteLost { .. }) => {
            Some(Loss::Holes { synced_index })
        }
        // It was here: whoever opens it says so.
        OpenError::Recovery(RecoveryError::NotFound { .. }) => Some(Loss::Tail),
        _ => None,
    }
}

/// Whether the disk is there, and cannot read what it holds.
fn is_unreadable(error: &OpenError) -> bool {
    matches!(error, OpenError::Recovery(RecoveryError::Unreadable { .. }))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
