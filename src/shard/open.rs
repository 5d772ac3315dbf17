//! How a shard comes to life: created once, and recovered at every start after that.

use std::sync::Arc;

use lockstep_planted::{self as planted, Bug};
use lockstep_storage::{
    Checkpoint, CreateError, Entry, Log, LogOptions, Recovered, RecoveryError, RecoveryReport, Replay,
    io::Disk,
};

use super::{Former, Output, Shard, ShardId, ShardSettings, ShardView, state::ShardState, types::Health};
use crate::{
    raft::{Group, GroupOptions, Membership},
    random::Random,
};

/// What a shard needs to know of its place.
#[derive(Clone)]
pub struct ShardOptions {
    /// Its id.
    pub shard: ShardId,
    /// Its directory, relative to the disk's root.
    pub directory: String,
    /// How its log is laid out.
    pub log: LogOptions,
    /// How its Raft group behaves.
    pub group: GroupOptions,
    /// How long a tick takes, in milliseconds.
    pub tick_ms: u64,
    /// How long a log is idle before it is sealed, which costs a sync, in ticks.
    pub seal_ticks: u64,
    /// What may be changed later.
    pub settings: ShardSettings,
}

/// Why a shard cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory is taken, or cannot be written.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Its log cannot be used as it is.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The log is sound, but what it says makes no sense.
    #[error("shard {shard}: {why}")]
    Content {
        /// Which shard.
        shard: ShardId,
        /// What makes no sense.
        why: String,
    },
}

/// The checkpoint a new log begins with: nothing but its first voters.
pub fn genesis(voters: &[u64]) -> Checkpoint {
    Checkpoint { log_start: 1, membership: Membership::of_voters(voters).encode(), ..Checkpoint::default() }
}

/// Formats a shard's directory, durably. Refuses one that exists. Where there was one before, the next goes on behind what
/// that has promised: see [`Former`].
pub fn create(
    disk: &Arc<dyn Disk>,
    options: &ShardOptions,
    voters: &[u64],
    random: &mut Random,
) -> Result<(), OpenError> {
    let (directory, shard) = (&options.directory, options.shard);
    let mut former = Former::read(&**disk, directory)
        .map_err(|error| OpenError::Content { shard, why: error.to_string() })?;
    if planted::is_active(Bug::ForgetFormerReplica) {
        former = Former::default();
    }
    let term = if former.term == 0 { 0 } else { former.term + 1 };
    let (genesis, nonce) = (genesis(voters), random.nonce());
    Ok(Log::create_in_term(Arc::clone(disk), directory, &options.log, genesis, nonce, term)?)
}

/// A recovered log, and the state that follows from all of it.
pub(super) fn recover(
    disk: Arc<dyn Disk>,
    options: &ShardOptions,
) -> Result<(Recovered, ShardState), OpenError> {
    let content = |why: String| OpenError::Content { shard: options.shard, why };
    let mut state: Option<ShardState> = None;
    let mut broken: Option<String> = None;
    let recovered =
        Log::recover(disk, &options.directory, options.log.clone(), &mut |replay| match replay {
            Replay::Base(base) => state = ShardState::from_checkpoint(base),
            Replay::Entry(entry) => {
                if let Some(state) = state.as_mut().filter(|_| broken.is_none()) {
                    broken = state.apply(entry).err().map(|error| error.to_string());
                }
            }
        })?;
    if let Some(why) = broken {
        return Err(content(why));
    }
    let state = state.ok_or_else(|| content("its checkpoint does not read".into()))?;
    Ok((recovered, state))
}

/// The last membership entry that another one follows, 0 if there is none. It is committed: a leader proposes the next
/// only once the one before is in force. So a restart goes back by one membership at the most, whatever else it has
/// forgotten of what is committed; by two it could elect itself with a majority that shares no node with today's.
fn settled_membership(state: &ShardState) -> u64 {
    if planted::is_active(Bug::RestartOnOlderMembership) {
        return 0;
    }
    state.unapplied_membership().iter().rev().nth(1).map_or(0, |entry| entry.index)
}

impl Shard {
    /// Recovers the log and starts its Raft group. Everything the log holds is synced when this returns.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: ShardOptions,
        mut random: Random,
        outputs: &mut Vec<Output>,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let shard = options.shard;
        let content = |why: String| OpenError::Content { shard, why };
        let segment_bytes = options.log.segment_bytes;
        let former = Former::read(&*disk, &options.directory).map_err(|error| content(error.to_string()))?;
        let (recovered, mut state) = recover(disk, &options)?;
        let known = recovered.vote.commit.max(settled_membership(&state));
        let commit = known.clamp(recovered.base.index, recovered.log.last_index());
        state.commit(commit);
        if let Some(damage) = recovered.lost_front(state.committed().log_start) {
            return Err(RecoveryError::Faulty(damage).into());
        }
        let base = recovered.base;
        let mut membership =
            Membership::decode(&base.membership).map_err(|error| content(error.to_string()))?;
        let mut membership_index = base.membership_index;
        let node = options.group.node;
        let mut group = Group::start(
            options.group,
            recovered.log,
            membership.clone(),
            recovered.vote,
            base.index,
            commit,
            random.split(),
        )
        .map_err(|error| content(error.to_string()))?;
        group.take_part_behind(former.term);
        group.log_mut().set_commit(commit);
        // What a forced roll left for later: committed by now, since its checkpoint is the base.
        let left_over = |entry: &&Entry| entry.index <= base.index;
        for entry in state.unapplied_membership().iter().filter(left_over).cloned().collect::<Vec<_>>() {
            membership = group.apply_membership(&entry).map_err(|error| content(error.to_string()))?;
            membership_index = entry.index;
            state.membership_applied(entry.index);
        }
        group.look_for_leader();
        let is_guest = !membership.nodes().contains(&node);
        let mut opened = Self {
            id: shard,
            node,
            segment_bytes,
            settings: options.settings,
            random,
            group,
            state,
            membership,
            membership_index,
            is_guest,
            membership_confirmed: false,
            requests: Default::default(),
            waiters: Default::default(),
            held: Default::default(),
            last_ready: 0,
            in_flight_ready: 0,
            persisted_ready: 0,
            vote_ready: 0,
            backlog: Default::default(),
            trimmed_to: 0,
            led_term: None,
            tick_ms: options.tick_ms,
            seal_ticks: options.seal_ticks,
            ticks: 0,
            newest: (0, 0),
            disk_full: false,
            step_down_tick: 0,
            broken: None::<Health>,
            view: ShardView::default(),
        };
        if let Err(health) = opened.roll_if_needed(0) {
            opened.stop(health, outputs);
        }
        opened.publish(outputs);
        Ok((opened, recovered.report))
    }
}
