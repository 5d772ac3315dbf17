//! The stable error codes: number, meaning, whether to retry, what to do.
//!
//! A number never changes its meaning and is never used again. 0 on the wire is success and therefore no
//! [`ErrorCode`]. A code this build does not know (a newer broker's) reads as [`ErrorCode::Unknown`].

/// Writes the enum and everything known about each code from one table.
macro_rules! error_codes {
    ($($number:literal $name:ident, $retry:ident, $meaning:literal, $fix:literal;)+) => {
        /// What went wrong, as a stable number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $meaning] #[doc = ""] #[doc = concat!("Fix: ", $fix)] $name = $number,)+
        }

        impl ErrorCode {
            /// Every code, by number.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name),+];

            /// The code with this number; [`ErrorCode::Unknown`] for one this build does not know.
            #[must_use]
            pub fn from_number(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)+
                    _ => Self::Unknown,
                }
            }

            /// The name in the documentation and in logs.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Whether the same request may succeed if it is sent again, perhaps elsewhere or later.
            /// A retried produce must repeat its producer id and sequence, so that it is not stored twice.
            #[must_use]
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => error_codes!(@retry $retry),)+ }
            }

            /// What happened, in one sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }

            /// What to do about it, in one sentence.
            #[must_use]
            pub fn fix(self) -> &'static str {
                match self { $(Self::$name => $fix,)+ }
            }
        }
    };
    (@retry retry) => { true };
    (@retry final) => { false };
}

error_codes! {
    1 Unknown, final, "The broker failed in a way that has no code of its own.", "Read the message, and the broker's log.";
    2 UnsupportedVersion, final, "The two sides share no protocol version.", "Use a client and a broker whose version ranges overlap.";
    3 UnknownRequest, final, "The request's api number names no request.", "Use an api number of the negotiated protocol version.";
    4 MalformedRequest, final, "The bytes of the request are not the message they claim to be.", "Encode the fields exactly as docs/wire-protocol.md draws them.";
    5 BadChecksum, retry, "The frame's checksum does not match its bytes.", "Send the request again; if it recurs, check the CRC-32C computation and the network.";
    6 FrameTooLarge, final, "The frame is longer than the broker accepts.", "Stay within the max_frame_bytes of the Hello response.";
    7 ClusterMismatch, final, "The broker belongs to another cluster.", "Correct the bootstrap address or the cluster id.";
    8 HandshakeRequired, final, "The first request on the connection was not Hello.", "Send Hello first on each connection.";
    9 NodeMismatch, final, "The node is not the one that was meant, or its data directory is not the one the cluster knows.", "Correct the address or the node id; after a lost disk, let the broker rejoin as a new replica.";
    10 NotLeader, retry, "This broker does not lead the partition.", "Send the request to the leader in the hint.";
    11 LeaderUnknown, retry, "The partition has no known leader at the moment.", "Wait briefly, refresh the metadata, send again.";
    12 OutcomeUnknown, retry, "Leadership was lost before the commit was known: the batch may or may not be stored.", "Retry with the same producer id and sequence; a stored batch then answers as a duplicate.";
    13 RequestTimedOut, retry, "The time limit passed before the outcome was known: a batch may or may not be stored.", "Retry with the same producer id and sequence, or allow more time.";
    14 NotReady, retry, "The broker or the shard is still starting or recovering.", "Wait until /readyz answers 200, then send again.";
    15 Overloaded, retry, "The broker's byte budget for batches in flight is used up.", "Slow down and send again later.";
    20 UnknownTopic, final, "There is no topic of this name.", "Create the topic, or correct its name.";
    21 UnknownPartition, final, "The topic has no partition of this number.", "Use a partition from 0 to the topic's partition count - 1.";
    22 TopicExists, final, "There is a topic of this name already.", "Use the existing topic, or choose another name.";
    23 InvalidTopicName, final, "The topic's name is not allowed.", "Use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and neither '.' nor '..'.";
    24 InvalidPartitionCount, final, "The number of partitions is out of range.", "Ask for at least 1 partition and no more than the cluster allows.";
    25 InvalidReplicationFactor, final, "The number of replicas is out of range.", "Ask for 0 (the default) or from 1 to the number of brokers.";
    26 InvalidConfig, final, "A topic setting has a value that is not allowed.", "Correct the setting the message names.";
    27 TooManyTopics, final, "The cluster holds as many topics or partitions as it is allowed to.", "Delete topics, or raise the limit.";
    30 InvalidBatch, final, "The record batch breaks a rule of the format.", "Correct what the message names, and compute the batch's CRC anew.";
    31 BatchTooLarge, final, "The record batch is longer than the limit.", "Split it; the limit is in the Hello response and the topic's settings.";
    32 RecordTooLarge, final, "A record is longer than the limit.", "Make the record smaller; the limit is in the Hello response.";
    33 EmptyBatch, final, "The batch holds no records.", "Send at least one record.";
    40 InvalidLsn, final, "0 is no LSN.", "Number records from 1.";
    41 LsnBelowLogStart, final, "The records asked for were removed by retention or a trim; the detail is the log start.", "Continue from the log start.";
    42 LsnBeyondTail, final, "The LSN is beyond the end of the log; the detail is the next LSN.", "Ask for an LSN up to the next one to be written.";
    43 ConditionFailed, final, "The next LSN is not the one the append expected; the detail is the actual one.", "Read what was appended meanwhile, then decide anew.";
    44 Fenced, final, "The partition is fenced by a greater epoch; the detail is that epoch.", "Stop writing, or acquire a greater epoch.";
    50 OutOfOrderSequence, final, "The batch's sequence is not the one that follows the producer's last.", "Send the producer's batches in order, each with the next sequence.";
    51 UnknownProducer, final, "The producer id is not known to the partition.", "Ask for a new producer id and start at sequence 0.";
    52 ProducerFenced, final, "A newer instance of the producer has taken over.", "Stop this instance.";
    53 DuplicateTooOld, final, "The batch was stored already, so long ago that its LSNs are no longer remembered.", "Treat it as stored; read the log if its LSNs matter.";
    60 StorageFull, retry, "The broker's disk is below its reserve of free space.", "Free or add disk space; the broker takes appends again by itself.";
    61 ShardFailed, retry, "A write or a sync failed, and the replica has stopped.", "Look at the disk and the broker's log, then restart the broker.";
    62 ShardFaulty, retry, "The replica found damage and repairs itself from its peers.", "Ask another replica, or wait for the repair.";
    63 BrokerRemoved, final, "The broker was removed from the cluster.", "Stop it; to use the machine again, let it join with an empty data directory.";
    70 CreditExceeded, final, "The subscription's credit is out of range.", "Grant at least 1 byte, and no more in all than the broker allows.";
    71 SubscriptionExists, final, "The connection has a subscription under this correlation already.", "Choose another correlation, or unsubscribe first.";
    72 UnknownSubscription, final, "The connection has no subscription under this correlation.", "Subscribe first; the subscription may have ended meanwhile.";
    80 PositionConflict, final, "The group's position is not the one the commit expected; the detail is the actual one, 0 if there is none.", "Read the position again, then decide anew.";
    81 GenerationFenced, final, "Another generation of the group has committed; the detail is that generation.", "Stop this member, or take over with a greater generation.";
    82 InvalidPosition, final, "The group's name, the LSN or the metadata of a position is not allowed.", "Use a name of 1 to 255 bytes without control characters, an LSN from 1 on, and at most 4096 bytes of metadata.";
    90 UnknownBroker, final, "There is no broker of this id.", "Use an id that the list of brokers shows.";
    91 BrokerConflict, final, "The broker's id, directory or address belongs to another broker.", "Give each broker an empty directory and addresses of its own.";
    92 BrokerInUse, final, "The broker still holds replicas.", "Drain it first, then remove it.";
    93 TooFewBrokers, final, "The brokers that would stay are too few for some partition's replicas.", "Add a broker first, then drain this one.";
    94 InvalidReplicas, final, "The brokers named cannot hold the replicas.", "Name each broker once, at least one, and none that is draining.";
    95 MovingAlready, final, "The partition is moving elsewhere already.", "Wait until it has moved, or cancel that move.";
}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    #[test]
    fn each_number_reads_back_as_its_code_and_rises() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(*code as u16), *code);
        }
        assert!(ErrorCode::ALL.is_sorted_by(|a, b| (*a as u16) < (*b as u16)));
    }

    #[test]
    fn zero_is_not_an_error_and_an_unheard_of_number_is_unknown() {
        assert!(ErrorCode::ALL.iter().all(|code| *code as u16 != 0));
        assert_eq!(ErrorCode::from_number(65_000), ErrorCode::Unknown);
    }

    #[test]
    fn the_documentation_lists_every_code_as_the_table_has_it() {
        let document = include_str!("../../docs/wire-protocol.md");
        for code in ErrorCode::ALL {
            let retry = if code.retryable() { "yes" } else { "no" };
            let row = format!(
                "| {} | {} | {retry} | {} | {} |",
                *code as u16,
                code.name(),
                code.meaning(),
                code.fix()
            );
            assert!(document.contains(&row), "docs/wire-protocol.md lacks this row:\n{row}");
        }
    }
}
