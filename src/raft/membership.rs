//! Who takes part in one Raft group, as we store it in checkpoints and send it in snapshots.
//!
//! ```text
//!  0  u8   version 1
//!  1  u8   bit 0: auto leave; bit 1: partial
//!  2  u16  voters    4  u16  learners    6  u16  outgoing voters    8  u16  next learners
//! 10  u64 … the node ids, in that order
//! ```
//! Little endian. Lists are sorted, so that equal memberships are equal bytes on every replica.

use bytes::{BufMut, Bytes, BytesMut};
use raft::eraftpb::ConfState;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 10;

/// The members of a Raft group. `voters_outgoing` is not empty only in a joint configuration (Ongaro, 2014, §4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Nodes that vote and count towards the quorum.
    pub voters: Vec<u64>,
    /// Nodes that get the log but do not count.
    pub learners: Vec<u64>,
    /// Voters of the configuration that is being left.
    pub voters_outgoing: Vec<u64>,
    /// Outgoing voters that become learners once the joint configuration is left.
    pub learners_next: Vec<u64>,
    /// Whether the leader leaves the joint configuration by itself.
    pub auto_leave: bool,
    /// Whether a membership entry before the index it stands for is not in it yet: such a one cannot be a snapshot's.
    pub partial: bool,
}

/// A stored membership that does not read as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a membership of {bytes} bytes (version {version}) does not read as one; was it written by a newer broker?"
)]
pub struct MembershipError {
    bytes: usize,
    version: u8,
}

impl Membership {
    /// A plain configuration of `voters`.
    pub fn of_voters(voters: &[u64]) -> Self {
        let mut voters = voters.to_vec();
        voters.sort_unstable();
        voters.dedup();
        Self { voters, ..Self::default() }
    }

    /// The bytes drawn above.
    pub fn encode(&self) -> Bytes {
        let lists = [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next];
        let mut bytes =
            BytesMut::with_capacity(HEADER_BYTES + 8 * lists.iter().map(|l| l.len()).sum::<usize>());
        bytes.put_u8(VERSION);
        bytes.put_u8(u8::from(self.auto_leave) | (u8::from(self.partial) << 1));
        for list in lists {
            bytes.put_u16_le(u16::try_from(list.len()).expect("a group has far fewer than 65,536 members"));
        }
        for node in lists.into_iter().flatten() {
            bytes.put_u64_le(*node);
        }
        bytes.freeze()
    }

    /// Reads the bytes drawn above, all of them.
    pub fn decode(bytes: &[u8]) -> Result<Self, MembershipError> {
        let error = || MembershipError { bytes: bytes.len(), version: bytes.first().copied().unwrap_or(0) };
        if bytes.len() < HEADER_BYTES || bytes[0] != VERSION || bytes[1] > 3 {
            return Err(error());
        }
        let count = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let counts = [count(2), count(4), count(6), count(8)];
        if bytes.len() != HEADER_BYTES + 8 * counts.iter().sum::<usize>() {
            return Err(error());
        }
        let mut nodes = bytes[HEADER_BYTES..]
            .chunks_exact(8)
            .map(|chunk| u64::from_le_bytes(chunk.try_into().expect("chunks of eight")));
        let mut list = |count: usize| nodes.by_ref().take(count).collect();
        Ok(Self {
            voters: list(counts[0]),
            learners: list(counts[1]),
            voters_outgoing: list(counts[2]),
            learners_next: list(counts[3]),
            auto_leave: bytes[1] & 1 == 1,
            partial: bytes[1] & 2 == 2,
        })
    }

    /// Everyone who gets the log, each node once.
    pub fn nodes(&self) -> Vec<u64> {
        let mut nodes =
            [&self.voters[..], &self.learners, &self.voters_outgoing, &self.learners_next].concat();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Whether this is a joint configuration, in which two majorities have to agree.
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether a node's vote counts.
    pub fn votes(&self, node: u64) -> bool {
        self.voters.contains(&node) || self.voters_outgoing.contains(&node)
    }

    /// Whether those for whom `holds` is true are a majority: in a joint configuration, of both halves.
    pub fn is_quorum(&self, holds: impl Fn(u64) -> bool) -> bool {
        let majority = |voters: &[u64]| {
            voters.is_empty() || 2 * voters.iter().filter(|node| holds(**node)).count() > voters.len()
        };
        majority(&self.voters) && majority(&self.voters_outgoing)
    }

    pub(super) fn from_raft(state: &ConfState) -> Self {
        let sorted = |nodes: &[u64]| {
            let mut nodes = nodes.to_vec();
            nodes.sort_unstable();
            nodes
        };
        Self {
            voters: sorted(&state.voters),
            learners: sorted(&state.learners),
            voters_outgoing: sorted(&state.voters_outgoing),
            learners_next: sorted(&state.learners_next),
            auto_leave: state.auto_leave,
            partial: false,
        }
    }

    pub(super) fn to_raft(&self) -> ConfState {
        ConfState {
            voters: self.voters.clone(),
            learners: self.learners.clone(),
            voters_outgoing: self.voters_outgoing.clone(),
            learners_next: self.learners_next.clone(),
            auto_leave: self.auto_leave,
            ..ConfState::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joint() -> Membership {
        Membership {
            voters: vec![1, 2, 4],
            learners: vec![9],
            voters_outgoing: vec![1, 2, 3],
            learners_next: vec![3],
            auto_leave: true,
            partial: true,
        }
    }

    #[test]
    fn a_membership_reads_back_as_written() {
        for membership in [Membership::default(), Membership::of_voters(&[3, 1, 2]), joint()] {
            assert_eq!(Membership::decode(&membership.encode()), Ok(membership));
        }
    }

    #[test]
    fn every_shortened_or_lengthened_membership_is_refused() {
        let bytes = joint().encode();
        for length in 0..bytes.len() {
            assert!(Membership::decode(&bytes[..length]).is_err(), "{length} bytes were accepted");
        }
        assert!(Membership::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_joint_configuration_needs_a_majority_of_both_halves() {
        let quorum = |nodes: &[u64]| joint().is_quorum(|node| nodes.contains(&node));
        assert!(quorum(&[1, 2]) && quorum(&[1, 3, 4]));
        assert!(!quorum(&[1, 4]) && !quorum(&[1, 3]) && !quorum(&[1, 9, 4]));
        assert!(joint().votes(3) && !joint().votes(9));
    }

    #[test]
    fn nodes_lists_each_member_once() {
        assert_eq!(joint().nodes(), vec![1, 2, 3, 4, 9]);
    }
}
