//! A shard command, as the body of a state entry; and as the state section before a batch, which may only be a position.
//!
//! ```text
//!  0  u8   1 fence | 2 trim | 3 position | 4 delete positions
//!  fence:    1  u64  the fencing epoch
//!  trim:     1  u64  the log start
//!  position: 1  u64  the shard that is read
//!            9  u64  the first LSN that is not processed
//!           17  u64  the generation
//!           25  u8   length, the group
//!            …  u16  length, the metadata
//!  delete:   1  u8   length, the group
//!            …  u64  the shard that is read, 0 for all
//! ```
//! Little endian. The conditions of a position are not in it: they were judged before.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::positions::{self, PositionCommit};
use super::types::Command;

const FENCE: u8 = 1;
const TRIM: u8 = 2;
const POSITION: u8 = 3;
const DELETE: u8 = 4;

/// The bytes drawn above.
pub fn encode(command: &Command) -> Bytes {
    let mut bytes = BytesMut::new();
    match command {
        Command::Fence { epoch } => {
            bytes.put_u8(FENCE);
            bytes.put_u64_le(*epoch);
        }
        Command::Trim { log_start } => {
            bytes.put_u8(TRIM);
            bytes.put_u64_le(*log_start);
        }
        Command::CommitPosition(commit) => encode_position(commit, &mut bytes),
        Command::DeletePositions { group, source } => {
            bytes.put_u8(DELETE);
            bytes.put_u8(group.len() as u8);
            bytes.put_slice(group.as_bytes());
            bytes.put_u64_le(source.unwrap_or(0));
        }
    }
    bytes.freeze()
}

/// Appends the state section of a batch that comes with a position.
pub fn encode_position(commit: &PositionCommit, out: &mut BytesMut) {
    let PositionCommit { group, source, next_lsn, generation, metadata, .. } = commit;
    out.put_u8(POSITION);
    positions::encode_commit(group, *source, *next_lsn, *generation, metadata, out);
}

/// Reads the bytes drawn above, all of them.
pub fn decode(bytes: &[u8]) -> Option<Command> {
    let (tag, mut rest) = bytes.split_first()?;
    let command = match *tag {
        FENCE => Command::Fence { epoch: rest.try_get_u64_le().ok()? },
        TRIM => Command::Trim { log_start: rest.try_get_u64_le().ok()? },
        POSITION => Command::CommitPosition(positions::decode_commit(&mut rest)?),
        DELETE => {
            let length = usize::from(rest.try_get_u8().ok()?);
            let group = positions::take_text(&mut rest, length)?;
            let source = rest.try_get_u64_le().ok()?;
            Command::DeletePositions { group, source: (source != 0).then_some(source) }
        }
        _ => return None,
    };
    rest.is_empty().then_some(command)
}

/// Whether the body of a state entry is a position: of all commands the one that comes as often as records do.
pub fn commits_position(body: &[u8]) -> bool {
    body.first() == Some(&POSITION)
}

/// Reads the state section of a batch.
pub fn decode_position(section: &[u8]) -> Option<PositionCommit> {
    match decode(section)? {
        Command::CommitPosition(commit) => Some(commit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_back_as_written_and_nothing_else_does() {
        let position = PositionCommit {
            group: "billing".into(),
            source: 7,
            next_lsn: 9,
            generation: 2,
            metadata: "note".into(),
            expected_next_lsn: None,
            expected_generation: None,
        };
        for command in [
            Command::Fence { epoch: 7 },
            Command::Trim { log_start: u64::MAX },
            Command::CommitPosition(position),
            Command::DeletePositions { group: "billing".into(), source: Some(7) },
            Command::DeletePositions { group: "billing".into(), source: None },
        ] {
            let bytes = encode(&command);
            assert_eq!(decode(&bytes), Some(command.clone()));
            assert_eq!(decode_position(&bytes).is_some(), matches!(command, Command::CommitPosition(_)));
            assert!((0..bytes.len()).all(|length| decode(&bytes[..length]).is_none()));
            assert_eq!(decode(&[&bytes[..], &[0]].concat()), None);
        }
        assert_eq!(decode(&[9; 9]), None);
    }
}
