//! What is folded from logs: a shard's state in a checkpoint, its membership and commands, the metadata.

use lockstep::cluster::{Command, MetadataState, PARTITIONS_MAX};
use lockstep::raft::Membership;
use lockstep::shard::{command, state::ShardState};
use lockstep_protocol::Record;
use lockstep_storage::{Checkpoint, Entry, EntryKind, Envelope};

use super::super::allocation::within_size_class;
use super::super::choices::Choices;

/// Bytes as a checkpoint, as the sections of one, as a command; then entries on top, and back.
pub fn state(input: &[u8]) {
    if let Some(checkpoint) = within_size_class(input.len(), || Checkpoint::decode(input)) {
        assert_eq!(checkpoint.encode(), input, "a checkpoint has one encoding");
        restored(&checkpoint);
    }
    if let Ok(membership) = within_size_class(input.len(), || Membership::decode(input)) {
        assert_eq!(Membership::decode(&membership.encode()), Ok(membership));
    }
    if let Some(told) = command::decode(input) {
        assert_eq!(command::encode(&told), input, "a command has one encoding");
    }
    if let Ok(envelope) = Envelope::decode(input) {
        assert_eq!(&envelope.encode()[..], input, "an envelope has one encoding");
    }
    let mut choices = Choices::new(input);
    let checkpoint = Checkpoint {
        index: choices.below(1 << 40),
        last_lsn: choices.below(1 << 40),
        log_start: choices.below(1 << 40),
        state: choices.bytes(400),
        ..Checkpoint::default()
    };
    if let Some(mut state) = restored(&checkpoint) {
        rolls_back(&mut state, checkpoint.index, &mut choices);
    }
}

/// The state of a checkpoint, if it reads; it writes what it read.
fn restored(checkpoint: &Checkpoint) -> Option<ShardState> {
    let state = within_size_class(2 * checkpoint.state.len(), || ShardState::from_checkpoint(checkpoint))?;
    let again = Checkpoint { state: state.encode(), ..checkpoint.clone() };
    let read = ShardState::from_checkpoint(&again).expect("our own state reads");
    assert_eq!(read.encode(), again.state);
    Some(state)
}

/// Uncommitted entries change the state, and a rollback takes back every change.
fn rolls_back(state: &mut ShardState, last_index: u64, choices: &mut Choices) {
    let before = (state.encode(), state.log_start(), state.fence(), state.leader_time_ms());
    let mut next = last_index + 1;
    while !choices.is_empty() {
        let (envelope, body) = (choices.bytes(60), choices.bytes(100));
        let kind = if choices.flag() { EntryKind::Normal } else { EntryKind::MembershipV2 };
        let entry = Entry { index: next, term: 1, kind, envelope, body };
        // The log takes nothing that does not pass this.
        if entry.verify().is_err() {
            continue;
        }
        if state.apply(&entry).is_err() {
            break;
        }
        next += 1;
    }
    state.roll_back(last_index + 1);
    let after = (state.encode(), state.log_start(), state.fence(), state.leader_time_ms());
    assert_eq!(after, before, "a rolled-back suffix leaves no trace");
}

/// One command a line, folded in order.
pub fn metadata(input: &[u8]) {
    let mut state = MetadataState::default();
    for line in input.split(|byte| *byte == b'\n') {
        let record = Record::new(0, line.to_vec());
        let Ok(command) = within_size_class(8 * line.len(), || Command::from_record(&record)) else {
            continue;
        };
        assert_eq!(Command::from_record(&command.to_record(3)).ok(), Some(command.clone()));
        let before = state.clone();
        let refused = state.apply(&command).is_err();
        assert_eq!(state.applied_lsn(), before.applied_lsn() + 1);
        assert!(state.next_shard() >= before.next_shard() && state.next_producer() >= before.next_producer());
        if refused {
            assert!(state.topics().eq(before.topics()), "what is refused changes nothing");
        }
        assert!(state.placements().count() <= PARTITIONS_MAX);
        assert!(state.placements().all(|(_, placement)| placement.shard < state.next_shard()));
    }
}
