//! Raft's messages and entries: the library's form to ours and back, bodies by reference.

use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use lockstep_protocol::peer::{RaftMessage, WireEntry, WireSnapshot};
use lockstep_storage::{Checkpoint, Entry, EntryKind};
use raft::eraftpb::{self, EntryType, MessageType, Snapshot, SnapshotMetadata};

use super::{Membership, StepError};

pub(super) fn entry_to_raft(entry: Entry) -> eraftpb::Entry {
    eraftpb::Entry {
        entry_type: match entry.kind {
            EntryKind::Normal => EntryType::EntryNormal,
            EntryKind::Membership => EntryType::EntryConfChange,
            EntryKind::MembershipV2 => EntryType::EntryConfChangeV2,
        },
        term: entry.term,
        index: entry.index,
        context: entry.envelope,
        data: entry.body,
        ..eraftpb::Entry::default()
    }
}

pub(super) fn entry_from_raft(entry: eraftpb::Entry) -> Entry {
    Entry {
        index: entry.index,
        term: entry.term,
        kind: match entry.entry_type {
            EntryType::EntryNormal => EntryKind::Normal,
            EntryType::EntryConfChange => EntryKind::Membership,
            EntryType::EntryConfChangeV2 => EntryKind::MembershipV2,
        },
        envelope: entry.context,
        body: entry.data,
    }
}

pub(super) fn snapshot_to_raft(index: u64, term: u64, membership: &Membership, data: Bytes) -> Snapshot {
    let metadata =
        SnapshotMetadata { index, term, conf_state: Some(membership.to_raft()).into(), ..Default::default() };
    Snapshot { data, metadata: Some(metadata).into(), ..Default::default() }
}

pub(super) fn to_wire(message: eraftpb::Message) -> RaftMessage {
    RaftMessage {
        kind: message.msg_type as u8,
        from: message.from,
        to: message.to,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        request_snapshot: message.request_snapshot,
        priority: message.priority,
        deprecated_priority: message.deprecated_priority,
        context: message.context,
        entries: message.entries.into_iter().map(entry_from_raft).map(entry_to_wire).collect(),
        snapshot: message.snapshot.into_option().filter(|s| s.get_metadata().index != 0).map(|snapshot| {
            let metadata = snapshot.get_metadata();
            let membership = Membership::from_raft(metadata.get_conf_state());
            WireSnapshot {
                index: metadata.index,
                term: metadata.term,
                voters: membership.voters,
                learners: membership.learners,
                voters_outgoing: membership.voters_outgoing,
                learners_next: membership.learners_next,
                auto_leave: membership.auto_leave,
                data: snapshot.data.clone(),
            }
        }),
    }
}

pub(super) fn from_wire(message: RaftMessage) -> Result<eraftpb::Message, StepError> {
    let msg_type = message_type(message.kind).ok_or(StepError::UnknownMessage { kind: message.kind })?;
    let entries = message
        .entries
        .into_iter()
        .map(|entry| entry_from_wire(entry).map(entry_to_raft))
        .collect::<Result<Vec<_>, _>>()?;
    let snapshot = message.snapshot.map(|snapshot| {
        let membership = Membership {
            voters: snapshot.voters,
            learners: snapshot.learners,
            voters_outgoing: snapshot.voters_outgoing,
            learners_next: snapshot.learners_next,
            auto_leave: snapshot.auto_leave,
            partial: false,
        };
        snapshot_to_raft(snapshot.index, snapshot.term, &membership, snapshot.data)
    });
    Ok(eraftpb::Message {
        msg_type,
        from: message.from,
        to: message.to,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        request_snapshot: message.request_snapshot,
        priority: message.priority,
        deprecated_priority: message.deprecated_priority,
        context: message.context,
        entries: entries.into(),
        snapshot: snapshot.into(),
        ..eraftpb::Message::default()
    })
}

/// An entry as it travels.
pub fn entry_to_wire(entry: Entry) -> WireEntry {
    let Entry { index, term, kind, envelope, body } = entry;
    let kind = match kind {
        EntryKind::Normal => 0,
        EntryKind::Membership => 1,
        EntryKind::MembershipV2 => 2,
    };
    WireEntry { index, term, kind, envelope, body }
}

/// The greatest index or term a message may give: nothing that is counted up from 1 gets there, and one more never
/// overflows.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// What no replica of ours sends must not reach the library, which would take it for a mistake of its own and end the
/// shard: a message for another node, from ourselves, or of no term, a number no log can reach, entries that do not
/// follow each other.
pub(super) fn check_plausible(message: &eraftpb::Message, node: u64) -> Result<(), StepError> {
    let refused = |why: &str| Err(StepError::Ignored(why.into()));
    if message.to != node || message.from == node || message.from == 0 {
        return refused("it is not from a peer to this node");
    }
    if message.term == 0 {
        return refused("it speaks for no term");
    }
    let numbers = [message.term, message.log_term, message.index, message.commit, message.commit_term];
    let hints = [message.reject_hint, message.request_snapshot];
    if numbers.iter().chain(&hints).any(|number| *number > NUMBER_MAX) {
        return refused("it gives a number that no log can reach");
    }
    // The library takes an entry that its log does not have for one of term 0, and would find the two alike.
    let is_append = message.msg_type == MessageType::MsgAppend;
    if is_append && (message.index == 0) != (message.log_term == 0) {
        return refused("it follows an entry of no term");
    }
    let (mut index, mut term) = (message.index, message.log_term);
    for entry in message.entries.iter() {
        if entry.index != index + 1 || entry.term < term || entry.term > message.term {
            return refused("its entries do not follow each other");
        }
        (index, term) = (entry.index, entry.term);
    }
    Ok(())
}

/// A snapshot is a checkpoint of the index it claims; anything else must not reach the library, which would take the
/// log before it for replaced.
pub(super) fn check_snapshot(message: &eraftpb::Message) -> Result<(), StepError> {
    let Some(snapshot) = message.snapshot.as_ref() else { return Ok(()) };
    let (index, term) = (snapshot.get_metadata().index, snapshot.get_metadata().term);
    match Checkpoint::decode(&snapshot.data) {
        Some(checkpoint) if (checkpoint.index, checkpoint.term) == (index, term) => Ok(()),
        _ => Err(StepError::Damaged { index, why: "the snapshot is no checkpoint of that index".into() }),
    }
}

/// What arrives is checked against its envelope before anything believes it.
pub fn entry_from_wire(entry: WireEntry) -> Result<Entry, StepError> {
    let kind = match entry.kind {
        0 => EntryKind::Normal,
        1 => EntryKind::Membership,
        2 => EntryKind::MembershipV2,
        kind => return Err(StepError::UnknownEntry { kind }),
    };
    let entry =
        Entry { index: entry.index, term: entry.term, kind, envelope: entry.envelope, body: entry.body };
    let verified =
        if planted::is_active(Bug::TrustPeersBytes) { entry.check_shape() } else { entry.verify() };
    match verified {
        Ok(_) => Ok(entry),
        Err(error) => Err(StepError::Damaged { index: entry.index, why: error.to_string() }),
    }
}

/// The message types one node may send another; the library's local ones, and proposals, are not among them.
fn message_type(kind: u8) -> Option<MessageType> {
    use MessageType as T;
    [
        T::MsgAppend,
        T::MsgAppendResponse,
        T::MsgRequestVote,
        T::MsgRequestVoteResponse,
        T::MsgSnapshot,
        T::MsgHeartbeat,
        T::MsgHeartbeatResponse,
        T::MsgTransferLeader,
        T::MsgTimeoutNow,
        T::MsgRequestPreVote,
        T::MsgRequestPreVoteResponse,
    ]
    .into_iter()
    .chain(planted::is_active(Bug::ForwardStampedProposal).then_some(T::MsgPropose))
    .find(|known| *known as u8 == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An append of entries 6 and 7 in terms 2 and 3, from node 2 to node 1.
    fn append() -> eraftpb::Message {
        let entry = |index, term| eraftpb::Entry { index, term, ..Default::default() };
        eraftpb::Message {
            msg_type: MessageType::MsgAppend,
            from: 2,
            to: 1,
            term: 3,
            log_term: 2,
            index: 5,
            entries: vec![entry(6, 2), entry(7, 3)].into(),
            ..Default::default()
        }
    }

    fn is_refused(change: impl FnOnce(&mut eraftpb::Message)) -> bool {
        let mut message = append();
        change(&mut message);
        check_plausible(&message, 1).is_err()
    }

    #[test]
    fn entries_that_do_not_follow_each_other_are_refused() {
        assert!(!is_refused(|_| ()));
        assert!(is_refused(|message| message.index = 4), "a gap before them");
        assert!(is_refused(|message| message.entries[1].index = 8), "a gap between them");
        assert!(is_refused(|message| message.log_term = 3), "a term that falls");
        assert!(is_refused(|message| message.entries[1].term = 4), "a term of the future");
    }

    #[test]
    fn entries_behind_one_of_no_term_are_refused() {
        assert!(is_refused(|message| message.log_term = 0), "only the beginning has no term");
        let at_the_beginning = |message: &mut eraftpb::Message| {
            (message.index, message.log_term) = (0, 0);
            message.entries = vec![eraftpb::Entry { index: 1, term: 1, ..Default::default() }].into();
        };
        assert!(!is_refused(at_the_beginning));
    }

    #[test]
    fn a_message_from_nobody_from_here_of_no_term_or_for_another_is_refused() {
        assert!(is_refused(|message| message.term = 0));
        assert!(is_refused(|message| message.from = 0));
        assert!(is_refused(|message| message.from = 1));
        assert!(is_refused(|message| message.to = 3));
    }

    #[test]
    fn numbers_that_no_log_can_reach_are_refused() {
        assert!(is_refused(|message| message.term = u64::MAX));
        assert!(is_refused(|message| message.index = u64::MAX));
        assert!(is_refused(|message| message.commit = 1 << 63));
    }
}
