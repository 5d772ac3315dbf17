//! What a replica wants done off its turn, on a thread that may block.
//!
//! Every job answers with one [`Done`], whatever happens, a panic included; only the one a replica waits for, by its
//! number, changes what it does next.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use lockstep_protocol::peer::RepairMessage;
use lockstep_storage::{
    Checkpoint, Entry, LogOptions, LogReader, ReadError, RecoveryReport, Vote,
    io::Disk,
    salvage::{self, Patch, PatchError, Survey, SurveyError},
};

use super::mark::{Loss, Mark};
use crate::{
    raft::{CatchingUp, ColdRead, ColdReadId, entry_to_wire},
    random::Random,
    shard::{self, Former, OpenError, Rebuild, Shard, ShardOptions, Surveyed, checkpoint_at},
};

/// Bytes read at a time where entries are gone through again.
const REPLAY_BYTES: usize = 1 << 20;

/// Work for a thread that may block.
pub struct Job {
    pub(super) place: Place,
    pub(super) number: u64,
    pub(super) work: Work,
}

/// Where a replica lives.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: ShardOptions,
}

/// One answer to one question of a peer.
pub(super) struct Question {
    pub(super) from: u64,
    pub(super) number: u64,
    pub(super) from_index: u64,
    pub(super) to_index: u64,
    pub(super) max_bytes: usize,
}

/// Where answers to peers are read.
pub(super) enum Source {
    Log(LogReader),
    Survey(Arc<Survey>),
}

pub(super) enum Work {
    Open {
        random: Random,
        /// Through this index it is known to have been synced.
        synced_index: u64,
    },
    Mark(Mark),
    Survey(Loss),
    /// The same after one segment was patched.
    Rescan {
        survey: Arc<Survey>,
        segment: u64,
        loss: Loss,
    },
    BeginPatch {
        survey: Arc<Survey>,
        segment: u64,
        checkpoint: Option<Checkpoint>,
        random: Random,
    },
    Fill {
        patch: Box<Patch>,
        entries: Vec<Entry>,
    },
    BeginRebuild {
        survey: Arc<Survey>,
        restart: Option<Checkpoint>,
        vote: Option<Vote>,
        why: String,
        random: Random,
    },
    Take {
        rebuild: Box<Rebuild>,
        entries: Vec<Entry>,
    },
    /// The repair is proven: what was put aside goes, and the mark last.
    Finish {
        rebuild: Option<Box<Rebuild>>,
        vote: Option<Vote>,
    },
    Serve(Question, Source),
    ColdRead(ColdRead, LogReader),
}

/// An opened shard, what opening it asked for, and what recovery did.
pub type Opened = Box<(Shard, Vec<shard::Output>, RecoveryReport)>;

/// What became of a [`Job`].
pub struct Done {
    pub(super) number: u64,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    Opened(Result<Opened, OpenError>),
    Marked(io::Result<()>),
    /// What is intact; and what that says, unless it is no news.
    Surveyed(Result<(Survey, Option<Surveyed>), SurveyError>),
    /// The patch, unless it is whole and in place.
    Patching(Result<Option<Box<Patch>>, PatchError>),
    Rebuilding(Result<Box<Rebuild>, String>),
    Finished(Result<(), String>),
    Served {
        to: u64,
        number: u64,
        message: RepairMessage,
        /// What was found to be damaged meanwhile.
        damage: Option<String>,
    },
    ColdRead {
        id: ColdReadId,
        entries: Result<Vec<Entry>, ReadError>,
    },
    /// An invariant broke.
    Panicked(String),
}

impl Job {
    /// Does it. Blocks.
    pub fn run(self) -> Done {
        let number = self.number;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.outcome()))
            .unwrap_or_else(|panic| Outcome::Panicked(super::panic_message(&*panic).to_owned()));
        Done { number, outcome }
    }

    fn outcome(self) -> Outcome {
        let Place { disk, options } = self.place;
        match self.work {
            Work::Open { random, synced_index } => {
                let options = ShardOptions { log: LogOptions { synced_index, ..options.log }, ..options };
                Outcome::Opened(open(disk, options, random))
            }
            Work::Mark(mark) => Outcome::Marked(mark.write(&*disk, &options.directory)),
            Work::Survey(loss) => Outcome::Surveyed(survey(disk, &options).map(|found| told(found, loss))),
            Work::Rescan { survey, segment, loss } => {
                let scanned = rescan(disk, &options, survey, segment);
                // The last segments are read for it: once, when the others are whole.
                let tells = |found: &Survey| !found.holes().iter().any(|hole| hole.is_closed());
                Outcome::Surveyed(scanned.map(|found| match tells(&found) {
                    true => told(found, loss),
                    false => (found, None),
                }))
            }
            Work::BeginPatch { survey, segment, checkpoint, random } => {
                Outcome::Patching(begin_patch(&survey, segment, checkpoint, random))
            }
            Work::Fill { patch, entries } => {
                Outcome::Patching(patch.push(&entries).and_then(finish_if_whole))
            }
            Work::BeginRebuild { survey, restart, vote, why, random } => {
                let begun = begin_rebuild(disk, &options, &survey, restart, vote, why, random);
                Outcome::Rebuilding(begun.map_err(|error| error.to_string()))
            }
            Work::Take { mut rebuild, entries } => {
                let taken = rebuild.take(entries).map_err(|error| error.to_string());
                Outcome::Rebuilding(taken.map(|()| rebuild))
            }
            Work::Finish { rebuild, vote } => {
                Outcome::Finished(finish(&*disk, &options, rebuild, vote).map_err(|error| error.to_string()))
            }
            Work::Serve(question, source) => {
                let (to, number) = (question.from, question.number);
                let (message, damage) = serve(&question, &source);
                Outcome::Served { to, number, message, damage }
            }
            Work::ColdRead(read, reader) => {
                let entries = reader.read_entries(read.low, read.high, read.max_bytes);
                Outcome::ColdRead { id: read.id, entries }
            }
        }
    }

    /// For whom it is, and what is read, if it is for a learner that catches up: such a one may wait.
    pub fn catching_up(&self) -> Option<(CatchingUp, &ColdRead)> {
        match &self.work {
            Work::ColdRead(read, _) => Some((read.learner?, read)),
            _ => None,
        }
    }

    /// Whether it may take minutes: such a one must not stand in the way of writes.
    pub fn is_long(&self) -> bool {
        !matches!(self.work, Work::Serve(..) | Work::ColdRead(..) | Work::Mark(_))
    }
}

impl Done {
    /// What a cold read brought, in bytes, if it was one; `None` in it if it failed.
    pub fn cold_read_bytes(&self) -> Option<Option<u64>> {
        match &self.outcome {
            Outcome::ColdRead { entries, .. } => Some(
                entries
                    .as_ref()
                    .ok()
                    .map(|entries| entries.iter().map(|entry| entry.payload_bytes() as u64).sum()),
            ),
            _ => None,
        }
    }
}

pub(super) fn open(disk: Arc<dyn Disk>, options: ShardOptions, random: Random) -> Result<Opened, OpenError> {
    let mut outputs = Vec::new();
    let (shard, report) = Shard::open(disk, options, random, &mut outputs)?;
    Ok(Box::new((shard, outputs, report)))
}

/// A directory that is gone altogether is surveyed as an empty one.
fn survey(disk: Arc<dyn Disk>, options: &ShardOptions) -> Result<Survey, SurveyError> {
    let directory = &options.directory;
    let failed = |error: io::Error| SurveyError::Io { path: directory.clone(), error };
    if !disk.exists(directory).map_err(failed)? {
        disk.create_dir(directory).map_err(failed)?;
    }
    Survey::take(disk, directory, &options.log)
}

/// What the log says of its shard; and whether it reaches back to its start, where it tells what that is.
fn told(mut survey: Survey, loss: Loss) -> (Survey, Option<Surveyed>) {
    let last = survey.last_intact_index().unwrap_or(0);
    let commit = survey.known_commit().min(last);
    let base = survey.checkpoint_before(commit).or_else(|| survey.checkpoint_before(u64::MAX));
    let Some(base) = base else { return (survey, None) };
    let behind = survey.intact().into_iter().filter(|run| *run.end() > base.index);
    let entries = behind.flat_map(|run| entries(&survey, base.index.max(run.start() - 1) + 1, *run.end()));
    let told = Surveyed::of(base, entries, commit);
    match (told.log_start, loss) {
        (Some(log_start), Loss::Holes { synced_index }) if last >= synced_index => {
            survey.demand_from(log_start);
        }
        _ => {}
    }
    (survey, Some(told))
}

/// The intact entries from one index through another, as far as they can be read; a few at a time.
fn entries(survey: &Survey, from: u64, through: u64) -> impl Iterator<Item = Entry> + '_ {
    let mut next = from;
    let chunks = std::iter::from_fn(move || {
        let entries = survey.read(next, through + 1, REPLAY_BYTES).ok()?;
        next = entries.last()?.entry.index + 1;
        Some(entries)
    });
    chunks.flatten().map(|chained| chained.entry)
}

/// Only the patched segment is read again, unless a peer is being served from the survey just now.
fn rescan(
    disk: Arc<dyn Disk>,
    options: &ShardOptions,
    survey: Arc<Survey>,
    segment: u64,
) -> Result<Survey, SurveyError> {
    match Arc::try_unwrap(survey) {
        Ok(mut survey) => survey.rescan(segment).map(|()| survey),
        Err(_) => self::survey(disk, options),
    }
}

fn begin_patch(
    survey: &Survey,
    segment: u64,
    checkpoint: Option<Checkpoint>,
    mut random: Random,
) -> Result<Option<Box<Patch>>, PatchError> {
    let hole = survey.holes().iter().find(|hole| hole.segment == segment);
    let checkpoint = match hole.filter(|hole| hole.header_lost && checkpoint.is_none()) {
        Some(hole) => hole.before.and_then(|before| lost_checkpoint(survey, before.index, before.chain)),
        None => checkpoint,
    };
    finish_if_whole(Patch::begin(survey, segment, checkpoint, random.nonce())?)
}

fn finish_if_whole(patch: Patch) -> Result<Option<Box<Patch>>, PatchError> {
    match patch.missing() {
        Some(_) => Ok(Some(Box::new(patch))),
        None => patch.finish().map(|()| None),
    }
}

/// The checkpoint that stood behind entry `index`, derived from the one before it and the entries between.
fn lost_checkpoint(survey: &Survey, index: u64, chain: u64) -> Option<Checkpoint> {
    let before = survey.checkpoint_before(index)?;
    let entries = entries(survey, before.index + 1, index);
    checkpoint_at(before, entries, chain).filter(|checkpoint| checkpoint.index == index)
}

fn begin_rebuild(
    disk: Arc<dyn Disk>,
    options: &ShardOptions,
    survey: &Survey,
    restart: Option<Checkpoint>,
    vote: Option<Vote>,
    why: String,
    mut random: Random,
) -> Result<Box<Rebuild>, Box<dyn std::error::Error>> {
    let directory = &options.directory;
    // From here on the files alone no longer tell that something is missing.
    Mark { loss: Loss::Tail, why }.write(&*disk, directory)?;
    if let Some(vote) = vote {
        reset_vote(&*disk, options, vote)?;
    }
    let nonce = random.nonce();
    match restart {
        Some(checkpoint) => salvage::restart_from(&*disk, directory, &options.log, checkpoint, nonce)?,
        None => salvage::cut_to_intact(survey)?,
    }
    Ok(Box::new(Rebuild::open(Arc::new(salvage::LenientDisk(disk)), options, random)?))
}

fn finish(
    disk: &dyn Disk,
    options: &ShardOptions,
    rebuild: Option<Box<Rebuild>>,
    vote: Option<Vote>,
) -> Result<(), Box<dyn std::error::Error>> {
    match (rebuild, vote) {
        (Some(rebuild), _) => rebuild.finish()?,
        (None, Some(vote)) => reset_vote(disk, options, vote)?,
        (None, None) => {}
    }
    salvage::discard_damaged(disk, &options.directory)?;
    // An attempt before this one may have ended between a rename and its sync, and no recovery syncs it any more.
    disk.sync_dir(&options.directory)?;
    Ok(Mark::remove(disk, &options.directory)?)
}

/// A vote in place of a lost one: behind whatever a replica that was here before has promised too.
fn reset_vote(disk: &dyn Disk, options: &ShardOptions, vote: Vote) -> Result<(), Box<dyn std::error::Error>> {
    let former = Former::read(disk, &options.directory)?;
    let vote = Vote { term: vote.term.max(former.term + 1), ..vote };
    Ok(salvage::reset_vote(disk, &options.directory, options.shard, vote)?)
}

/// What this replica has of what a peer asks for, and what it found to be damaged. Whatever cannot be read is not there.
fn serve(question: &Question, source: &Source) -> (RepairMessage, Option<String>) {
    let Question { from_index, to_index, max_bytes, .. } = *question;
    let high = to_index.saturating_add(1);
    let before = from_index.saturating_sub(1);
    let mut damage = None;
    let (chain_before, entries) = match source {
        Source::Log(reader) => {
            let read = reader.chained_entries(from_index, high, max_bytes);
            if let Err(ReadError::Damaged(found)) = &read {
                damage = Some(found.to_string());
            }
            (reader.chain_at(before).ok(), read.unwrap_or_default())
        }
        Source::Survey(survey) => {
            let read = |low, high, max_bytes| survey.read(low, high, max_bytes).unwrap_or_default();
            let chain = read(before, from_index, 0).first().map(|entry| entry.chain);
            let stands =
                || survey.checkpoint_before(before).filter(|at| at.index == before).map(|at| at.chain);
            (chain.or_else(stands), read(from_index, high, max_bytes))
        }
    };
    let entries = entries.into_iter().map(|chained| entry_to_wire(chained.entry)).collect();
    (RepairMessage::Entries { chain_before, entries }, damage)
}

/// A checkpoint as it travels; empty for none.
pub(super) fn checkpoint_message(checkpoint: Option<&Checkpoint>) -> RepairMessage {
    RepairMessage::Checkpoint { checkpoint: checkpoint.map_or_else(Bytes::new, Checkpoint::encode) }
}
