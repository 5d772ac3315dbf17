//! A shard command, as the body of a state entry.
//!
//! ```text
//!  0  u8   1 fence | 2 trim
//!  1  u64  the fencing epoch | the log start
//! ```
//! Little endian.

use bytes::{BufMut, Bytes, BytesMut};

use super::types::Command;

const BYTES: usize = 9;
const FENCE: u8 = 1;
const TRIM: u8 = 2;

/// The bytes drawn above.
pub fn encode(command: Command) -> Bytes {
    let (tag, number) = match command {
        Command::Fence { epoch } => (FENCE, epoch),
        Command::Trim { log_start } => (TRIM, log_start),
    };
    let mut bytes = BytesMut::with_capacity(BYTES);
    bytes.put_u8(tag);
    bytes.put_u64_le(number);
    bytes.freeze()
}

/// Reads the bytes drawn above, all of them.
pub fn decode(bytes: &[u8]) -> Option<Command> {
    let (tag, number) = bytes.split_first()?;
    let number = u64::from_le_bytes(number.try_into().ok()?);
    match *tag {
        FENCE => Some(Command::Fence { epoch: number }),
        TRIM => Some(Command::Trim { log_start: number }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_back_as_written_and_nothing_else_does() {
        for command in [Command::Fence { epoch: 7 }, Command::Trim { log_start: u64::MAX }] {
            let bytes = encode(command);
            assert_eq!(decode(&bytes), Some(command));
            assert!((0..bytes.len()).all(|length| decode(&bytes[..length]).is_none()));
        }
        assert_eq!(decode(&[9; BYTES]), None);
        assert_eq!(decode(&[1; BYTES + 1]), None);
    }
}
