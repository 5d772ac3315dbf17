//! Which record of which batch of which client, and how a record's value says so.
//!
//! What holds: a value made by [`RecordId::to_value`] parses back to its own id and nothing else does. A value that
//! was cut short, lengthened, mixed with another or changed in any byte does not parse.
//!
//! ```text
//! 0   16 lower-case hexadecimal digits: FNV-1a (64 bits) of everything behind the space that follows
//! 16  a space
//! 17  "CLIENT NUMBER INDEX "   decimal, one space behind each
//! …   padding: letters, as many as were asked for
//! ```

use std::fmt;

const CHECKSUM_DIGITS: usize = 16;

/// One record: the `index`-th (from 0) of batch `number` (from 1) of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The logical writer, one with a program order of its own.
    pub client: u64,
    /// The batch's number among this client's: 1, 2, 3 … Zero is no batch: see [`RecordId::FOREIGN`].
    pub number: u64,
    /// The record's place in its batch, from 0.
    pub index: u32,
}

impl RecordId {
    /// What stands for a record whose value does not parse: nobody in the history can have written it.
    pub const FOREIGN: Self = Self { client: 0, number: 0, index: 0 };

    /// The id of one record.
    #[must_use]
    pub const fn new(client: u64, number: u64, index: u32) -> Self {
        Self { client, number, index }
    }

    /// The value a record with this id carries, `padding` bytes longer than it has to be. It is text.
    #[must_use]
    pub fn to_value(self, padding: usize) -> Vec<u8> {
        let Self { client, number, index } = self;
        let mut value = format!("{:CHECKSUM_DIGITS$} {client} {number} {index} ", "").into_bytes();
        let letters = (b'a'..=b'z').cycle().skip((number % 26) as usize);
        value.extend(letters.take(padding));
        let checksum = fnv1a(&value[CHECKSUM_DIGITS + 1..]);
        value[..CHECKSUM_DIGITS].copy_from_slice(format!("{checksum:016x}").as_bytes());
        value
    }

    /// The id a value carries, or nothing if it is not exactly what [`RecordId::to_value`] made.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (checksum, rest) = value.split_at_checked(CHECKSUM_DIGITS)?;
        let body = rest.strip_prefix(b" ")?;
        if checksum != format!("{:016x}", fnv1a(body)).as_bytes() {
            return None;
        }
        let mut words = body.split(|byte| *byte == b' ');
        let mut word = || std::str::from_utf8(words.next()?).ok();
        let id = Self::new(word()?.parse().ok()?, word()?.parse().ok()?, word()?.parse().ok()?);
        word()?;
        Some(id)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::FOREIGN {
            return formatter.write_str("a record of nobody in the history");
        }
        let Self { client, number, index } = self;
        write!(formatter, "record {index} of client {client}'s batch {number}")
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_parses_back_to_its_id_with_any_padding() {
        for id in
            [RecordId::new(0, 1, 0), RecordId::new(u64::MAX, u64::MAX, u32::MAX), RecordId::new(7, 26, 3)]
        {
            for padding in [0, 1, 27, 1_000] {
                let value = id.to_value(padding);
                assert_eq!(RecordId::parse(&value), Some(id));
                assert_eq!(value.len(), id.to_value(0).len() + padding);
                assert!(std::str::from_utf8(&value).is_ok());
            }
        }
    }

    #[test]
    fn a_torn_lengthened_or_changed_value_does_not_parse() {
        let value = RecordId::new(3, 17, 2).to_value(40);
        for length in 0..value.len() {
            assert_eq!(RecordId::parse(&value[..length]), None, "cut to {length}");
        }
        for (at, bit) in (0..value.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = value.clone();
            changed[at] ^= 1 << bit;
            assert_eq!(RecordId::parse(&changed), None, "bit {bit} of byte {at}");
        }
        assert_eq!(RecordId::parse(&[value.as_slice(), b"x"].concat()), None);
        let half = value.len() / 2;
        let other = RecordId::new(3, 18, 2).to_value(40);
        assert_eq!(RecordId::parse(&[&value[..half], &other[half..]].concat()), None);
    }
}
