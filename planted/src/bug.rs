//! The list of bugs.

use std::fmt;
use std::str::FromStr;

/// A mistake somebody could make here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bug {
    // ---- What is acknowledged before it is safe ----
    /// A follower's acknowledgements leave at once, not when the sync they speak of has returned.
    AcknowledgeBeforeSync,
    /// A replica whose write or sync failed still lets go the acknowledgements that waited for it.
    AcknowledgeAfterFailedSync,
    /// A leader counts its own copy when the write is handed to the disk, not when its sync has returned.
    CountOwnCopyEarly,
    /// A sync that returns is taken to cover whatever was asked for since it began.
    ReleaseForNewestReady,
    /// A group is written and reported as done without the sync at its end.
    SkipSync,
    /// A sync that failed is called again, and its second answer believed: by then the kernel has dropped
    /// the pages.
    RetryFailedSync,
    /// A write or sync that failed is logged and forgotten.
    IgnoreFailedGroup,
    /// A leader answers for its tail from what it knows, without asking a quorum whether it still leads.
    AnswerTailWithoutQuorum,
    /// Requests outlive the leadership they were made under, and take another leader's entry at their index
    /// for theirs.
    TellWaitersOfAnotherLeadersEntry,
    /// A leader that lost its office answers "not the leader" to what it had proposed already, as if that
    /// could not commit any more.
    CallUnknownOutcomeRefused,
    // ---- Votes and terms ----
    /// A vote leaves before it is on the disk.
    VoteBeforeSync,
    /// The term is stored and the vote in it is not.
    ForgetWhomVotedFor,
    /// The vote is written over the only copy of the one before.
    StoreVoteInOneCopy,
    /// Cutting the log's tail takes the vote with it.
    LoseVoteAtTruncation,
    /// A vote goes to whoever has the longer log, whatever the terms in it.
    CompareOnlyIndexInVotes,
    /// A follower commits through the leader's committed index without having matched the leader's log that
    /// far.
    CommitToLeadersWord,
    // ---- Who takes part ----
    /// A membership entry takes effect as soon as it is appended, committed or not.
    ApplyMembershipAtAppend,
    /// A leader that took itself out leads on.
    LeadOnAfterRemoval,
    /// A restart believes only what it had noted as committed, although one membership entry follows another in its log.
    RestartOnOlderMembership,
    /// A replica that comes back to a node knows nothing of what the former one there has promised.
    ForgetFormerReplica,
    // ---- Brokers, and where replicas are to be ----
    /// A move is called finished while a new replica still catches up.
    FinishMoveTooEarly,
    /// A move is called finished by a membership that a restart may still forget.
    FinishMoveUnconfirmed,
    /// A finish that comes late ends whatever move its shard makes by then.
    FinishAnotherMove,
    /// The placement does not remember with which membership its move ended.
    ForgetMembershipOfMove,
    /// A move begins while its shard moves.
    BeginMoveOverMove,
    /// A replica that is to leave goes when its move begins, not when it is over.
    DropWhileMoving,
    /// A new replica's files begin with today's hosts, not with the shard's first voters.
    BeginWithTodaysHosts,
    /// Brokers that give their replicas away are thought of as places for them.
    PlaceOnDraining,
    /// A broker that gives its replicas away keeps the metadata.
    KeepMetadataOnDraining,
    /// A broker is removed while it holds replicas.
    RemoveBrokerInUse,
    /// Two brokers are taken in under one id.
    GiveBrokerIdTwice,
    // ---- Truncation ----
    /// Entries are taken back in memory and left in the files.
    ForgetToTruncate,
    /// The cut is not synced, and the log goes on in the same segment.
    TruncateWithoutSync,
    /// What was synced under an index is believed of the entry that replaces it.
    KeepSyncMarkAtTruncation,
    /// The index of terms keeps the runs of entries that were taken back.
    KeepTermsAtTruncation,
    /// The cache of the newest entries keeps the ones that were taken back.
    KeepTailAtTruncation,
    /// What rolled-back batches said of their producers is still believed.
    KeepProducersAtRollback,
    /// A fence that was rolled back still stands.
    KeepFenceAtRollback,
    /// A group is still believed to have come as far as a rolled-back entry said.
    KeepPositionsAtRollback,
    // ---- LSNs, batches and what is served ----
    /// Everything in the log is shown to readers, committed or not.
    ServeAboveHighWatermark,
    /// A read that goes to the segments forgets where the committed records end.
    ReadPastHighWatermarkOnDisk,
    /// LSNs go on from the last committed one, although the log has a tail behind it.
    ResetLsnOnElection,
    /// An entry without records takes an LSN.
    GiveSystemEntryAnLsn,
    /// The last record of a batch is not counted.
    DropSuffixOfBatch,
    /// The producer's own base offset is stored, not the one the log gave the batch.
    LeaveOffsetUnstamped,
    /// A retry is told the LSNs it would have got, not those it has.
    AnswerDuplicateWithNewLsns,
    /// A trim takes effect before it is committed, and what was dropped stays dropped when it is rolled
    /// back.
    TrimBeforeCommit,
    // ---- Conditions ----
    /// An expected LSN is compared with the committed log, not with the tail behind it.
    JudgeExpectedLsnByCommitted,
    /// While the log has an uncommitted tail, no writer is held to the fence.
    IgnoreFenceOverTail,
    /// A retry is told "stored before" while what it repeats is not committed.
    AnswerDuplicateFromTail,
    /// A refusal that stands on uncommitted entries is told at once.
    AnswerRefusalFromTail,
    /// A producer's batch is taken although the one before it is missing.
    AcceptSequenceGap,
    /// A follower stamps what it is asked to append by its own log, and passes it on to the leader.
    ForwardStampedProposal,
    /// A checkpoint leaves out the producers, and a restart or a snapshot forgets them.
    ForgetProducersInCheckpoint,
    /// A checkpoint leaves out the groups' positions, and a restart or a snapshot forgets them.
    ForgetPositionsInCheckpoint,
    /// A position is committed whatever it was to depend on, and a batch with it.
    CommitPositionWithoutCondition,
    /// A checkpoint holds the state of entries that come after it.
    CheckpointLaterState,
    // ---- Files and their names ----
    /// A new log's name is not synced.
    ForgetDirectorySyncAfterCreation,
    /// A new segment's name is not synced before frames go into it.
    ForgetDirectorySyncAfterRoll,
    /// A segment's removal is not synced before the next one's.
    ForgetDirectorySyncAfterRemoval,
    /// Recovery removes what a new name makes void before that name is durable.
    ForgetDirectorySyncInRecovery,
    /// A segment gets its name before its header is on the disk.
    NameSegmentBeforeHeaderSync,
    /// A segment is begun while frames of the one before it are not synced.
    RollWithoutSyncingPredecessor,
    /// The segment that a snapshot begins does not say that all before it is void.
    InstallSnapshotWithoutRestart,
    // ---- Reading back ----
    /// What recovery reads is taken for durable; it may be in the page cache alone.
    RecoverWithoutSyncing,
    /// A seal at the end of a file is taken to vouch for it although it was being cut when the process ended.
    TrustSealDuringCut,
    /// The vote is taken for durable as it is read.
    TrustVoteOfOneCopy,
    /// Bodies are not checked as they are read from the disk.
    SkipBodyChecksum,
    /// Frame checksums do not tell one use of a file from the next, nor is a frame's chain checked.
    AcceptFormerLife,
    /// Damage to what was synced is cut off like a torn tail.
    CutDamageBelowSyncMark,
    /// The committed index is taken for a proof of what was on this disk, and a tear below it for damage.
    TakeCommitForSynced,
    /// A seal vouches for entries that no sync covers yet.
    SealBeforeSync,
    /// A frame calls everything before it synced.
    MarkAllBeforeSynced,
    /// Entries from a peer are not checked against their envelopes.
    TrustPeersBytes,
    // ---- Repair ----
    /// A replica that was marked as faulty is opened like any other once its broker starts again.
    ForgetMark,
    /// A segment that was written anew takes the old one's place before it is on the disk.
    ReplaceSegmentBeforeSync,
    /// The scrub passes over what is damaged.
    IgnoreScrub,
    /// A replica that lost its vote asks nobody for the terms it may have voted in.
    ForgetLostVote,
    // ---- The client ----
    /// The sequence of a refused batch is used again while an earlier attempt at it may still be stored.
    ReuseSequenceOfOpenAttempt,
    /// An answer is told to the newest batch in flight, not to the oldest.
    TakeAnotherBatchsAnswer,
    /// After a failure only the newest batch in flight is sent again.
    ResendOnlyTheLast,
    /// A subscriber that was cut off goes on behind what was committed then, not behind what it had read.
    SkipAfterReconnect,
    /// A batch without a sequence is sent again although the first attempt may have been stored.
    RetryUnsafely,
}

impl Bug {
    /// Every bug, in the order of their declaration.
    pub const ALL: [Self; 83] = [
        Self::AcknowledgeBeforeSync,
        Self::AcknowledgeAfterFailedSync,
        Self::CountOwnCopyEarly,
        Self::ReleaseForNewestReady,
        Self::SkipSync,
        Self::RetryFailedSync,
        Self::IgnoreFailedGroup,
        Self::AnswerTailWithoutQuorum,
        Self::TellWaitersOfAnotherLeadersEntry,
        Self::CallUnknownOutcomeRefused,
        Self::VoteBeforeSync,
        Self::ForgetWhomVotedFor,
        Self::StoreVoteInOneCopy,
        Self::LoseVoteAtTruncation,
        Self::CompareOnlyIndexInVotes,
        Self::CommitToLeadersWord,
        Self::ApplyMembershipAtAppend,
        Self::LeadOnAfterRemoval,
        Self::RestartOnOlderMembership,
        Self::ForgetFormerReplica,
        Self::FinishMoveTooEarly,
        Self::FinishMoveUnconfirmed,
        Self::FinishAnotherMove,
        Self::ForgetMembershipOfMove,
        Self::BeginMoveOverMove,
        Self::DropWhileMoving,
        Self::BeginWithTodaysHosts,
        Self::PlaceOnDraining,
        Self::KeepMetadataOnDraining,
        Self::RemoveBrokerInUse,
        Self::GiveBrokerIdTwice,
        Self::ForgetToTruncate,
        Self::TruncateWithoutSync,
        Self::KeepSyncMarkAtTruncation,
        Self::KeepTermsAtTruncation,
        Self::KeepTailAtTruncation,
        Self::KeepProducersAtRollback,
        Self::KeepFenceAtRollback,
        Self::KeepPositionsAtRollback,
        Self::ServeAboveHighWatermark,
        Self::ReadPastHighWatermarkOnDisk,
        Self::ResetLsnOnElection,
        Self::GiveSystemEntryAnLsn,
        Self::DropSuffixOfBatch,
        Self::LeaveOffsetUnstamped,
        Self::AnswerDuplicateWithNewLsns,
        Self::TrimBeforeCommit,
        Self::JudgeExpectedLsnByCommitted,
        Self::IgnoreFenceOverTail,
        Self::AnswerDuplicateFromTail,
        Self::AnswerRefusalFromTail,
        Self::AcceptSequenceGap,
        Self::ForwardStampedProposal,
        Self::ForgetProducersInCheckpoint,
        Self::ForgetPositionsInCheckpoint,
        Self::CommitPositionWithoutCondition,
        Self::CheckpointLaterState,
        Self::ForgetDirectorySyncAfterCreation,
        Self::ForgetDirectorySyncAfterRoll,
        Self::ForgetDirectorySyncAfterRemoval,
        Self::ForgetDirectorySyncInRecovery,
        Self::NameSegmentBeforeHeaderSync,
        Self::RollWithoutSyncingPredecessor,
        Self::InstallSnapshotWithoutRestart,
        Self::RecoverWithoutSyncing,
        Self::TrustSealDuringCut,
        Self::TrustVoteOfOneCopy,
        Self::SkipBodyChecksum,
        Self::AcceptFormerLife,
        Self::CutDamageBelowSyncMark,
        Self::TakeCommitForSynced,
        Self::SealBeforeSync,
        Self::MarkAllBeforeSynced,
        Self::TrustPeersBytes,
        Self::ForgetMark,
        Self::ReplaceSegmentBeforeSync,
        Self::IgnoreScrub,
        Self::ForgetLostVote,
        Self::ReuseSequenceOfOpenAttempt,
        Self::TakeAnotherBatchsAnswer,
        Self::ResendOnlyTheLast,
        Self::SkipAfterReconnect,
        Self::RetryUnsafely,
    ];

    /// Its name in commands and tables: `acknowledge-before-sync`.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.name())
    }
}

/// No bug has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBug(String);

impl fmt::Display for UnknownBug {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "there is no bug {:?}; `planted --list` names them all", self.0)
    }
}

impl std::error::Error for UnknownBug {}

impl FromStr for Bug {
    type Err = UnknownBug;

    fn from_str(name: &str) -> Result<Self, UnknownBug> {
        Self::ALL.into_iter().find(|bug| bug.name() == name).ok_or_else(|| UnknownBug(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_is_listed_once_and_found_by_its_name() {
        for (place, bug) in Bug::ALL.into_iter().enumerate() {
            assert_eq!(bug as usize, place);
            assert_eq!(bug.name().parse(), Ok(bug));
        }
        assert_eq!(Bug::ALL.len(), Bug::RetryUnsafely as usize + 1, "the last one is declared last");
        assert_eq!(Bug::AcknowledgeBeforeSync.name(), "acknowledge-before-sync");
        assert!("no-such-bug".parse::<Bug>().is_err());
    }
}
