//! How one value becomes bytes, and comes back.
//!
//! - Integers are little endian, of fixed width.
//! - `bool` is one byte, 0 or 1; an optional value is such a byte and, after a 1, the value.
//! - A string is a `u32` length and UTF-8; a list is a `u32` count and its items.
//! - A structure is its fields in the order given to [`wire_fields!`](crate::wire), without padding.
//!
//! Decoding is exact: unknown tags, counts beyond the input and left-over bytes are refused.

use bytes::{BufMut, BytesMut};
use nom::IResult;
use nom::Parser;
use nom::bytes::complete::take;
use nom::error::{ErrorKind, ParseError};
use nom::number::complete::{le_i16, le_i64, le_u8, le_u16, le_u32, le_u64};

/// What a parser returns: the input that is left, and the value.
pub type Parsed<'a, T> = IResult<&'a [u8], T, DecodeError>;

/// Why bytes are not the message they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a field.
    #[error("the message ends inside a field: send all of its fields, in order")]
    Truncated,
    /// A list or string claims more than the input can hold.
    #[error(
        "a list or string declares {declared} items, but only {remaining} bytes follow: correct the count"
    )]
    CountBeyondInput {
        /// Items (or bytes, for a string) that were declared.
        declared: u64,
        /// Bytes that follow the count.
        remaining: u64,
    },
    /// A string is not UTF-8.
    #[error("a string is not UTF-8: encode text as UTF-8")]
    NotUtf8,
    /// A one-byte or two-byte choice has a value that is not one of the choices.
    #[error("{value} is no valid {what}: use a value listed in the protocol's documentation")]
    InvalidTag {
        /// Which choice.
        what: &'static str,
        /// The value found.
        value: u64,
    },
    /// Bytes are left after the last field.
    #[error("{count} bytes follow the last field of the message: remove them, or check the message's layout")]
    TrailingBytes {
        /// How many.
        count: u64,
    },
    /// The lengths a message gives for its payload do not add up to the payload.
    #[error("the message declares {declared} payload bytes, but {actual} follow it: correct the lengths")]
    PayloadMismatch {
        /// Sum of the declared lengths.
        declared: u64,
        /// Bytes that are there.
        actual: u64,
    },
    /// The first bytes of a log entry's body are not those that were sent.
    #[error("the body of entry {index} was changed on the way: check the network")]
    BodyChecksum {
        /// The entry's Raft index.
        index: u64,
    },
}

impl ParseError<&[u8]> for DecodeError {
    /// The only nom parsers used here are fixed-width integers and `take`: all they lack is input.
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Self::Truncated
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// A value with a fixed layout on the wire.
pub trait Wire: Sized {
    /// Length of the shortest encoding in bytes; what a list's count is checked with.
    const MIN_BYTES: usize;

    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut BytesMut);

    /// Takes the value off the front of `input`.
    fn parse(input: &[u8]) -> Parsed<'_, Self>;

    /// Decodes a value that is all of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] if `bytes` is anything but exactly one encoding of the value.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (rest, value) = finish(Self::parse(bytes))?;
        if !rest.is_empty() {
            return Err(DecodeError::TrailingBytes { count: rest.len() as u64 });
        }
        Ok(value)
    }
}

/// Turns nom's result into a plain one. The parsers here are complete, so `Incomplete` cannot be meant.
pub(crate) fn finish<T>(parsed: Parsed<'_, T>) -> Result<(&[u8], T), DecodeError> {
    parsed.map_err(|error| match error {
        nom::Err::Error(error) | nom::Err::Failure(error) => error,
        nom::Err::Incomplete(_) => DecodeError::Truncated,
    })
}

/// Ends parsing with `error`.
pub(crate) fn refuse<T>(error: DecodeError) -> Result<T, nom::Err<DecodeError>> {
    Err(nom::Err::Failure(error))
}

/// A length or count as it stands on the wire. No frame is long enough for one that does not fit: such a
/// value saturates, and the receiver refuses it.
pub(crate) fn wire_length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Checks that `declared` items of at least `item_bytes` each can follow.
pub(crate) fn check_count(
    declared: u32,
    item_bytes: usize,
    input: &[u8],
) -> Result<(), nom::Err<DecodeError>> {
    let least = u64::from(declared) * (item_bytes.max(1) as u64);
    if least > input.len() as u64 {
        return refuse(DecodeError::CountBeyondInput {
            declared: u64::from(declared),
            remaining: input.len() as u64,
        });
    }
    Ok(())
}

/// Takes a `u32` length and that many bytes.
pub(crate) fn length_prefixed(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (input, length) = le_u32(input)?;
    check_count(length, 1, input)?;
    take(length).parse(input)
}

macro_rules! wire_integers {
    ($($integer:ty, $parser:path, $put:ident;)+) => {$(
        impl Wire for $integer {
            const MIN_BYTES: usize = size_of::<$integer>();

            fn encode(&self, out: &mut BytesMut) {
                out.$put(*self);
            }

            fn parse(input: &[u8]) -> Parsed<'_, Self> {
                $parser(input)
            }
        }
    )+};
}

wire_integers! {
    u8, le_u8, put_u8;
    u16, le_u16, put_u16_le;
    u32, le_u32, put_u32_le;
    u64, le_u64, put_u64_le;
    i16, le_i16, put_i16_le;
    i64, le_i64, put_i64_le;
}

impl Wire for bool {
    const MIN_BYTES: usize = 1;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }

    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        match le_u8(input)? {
            (rest, 0) => Ok((rest, false)),
            (rest, 1) => Ok((rest, true)),
            (_, value) => refuse(DecodeError::InvalidTag { what: "yes-or-no byte", value: value.into() }),
        }
    }
}

/// Cluster and directory ids: 16 bytes as they are.
impl Wire for [u8; 16] {
    const MIN_BYTES: usize = 16;

    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(self);
    }

    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let (rest, bytes) = take(16_usize).parse(input)?;
        let mut id = [0; 16];
        id.copy_from_slice(bytes);
        Ok((rest, id))
    }
}

impl Wire for String {
    const MIN_BYTES: usize = 4;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(wire_length(self.len()));
        out.put_slice(self.as_bytes());
    }

    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let (rest, bytes) = length_prefixed(input)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok((rest, text.to_owned())),
            Err(_) => refuse(DecodeError::NotUtf8),
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    const MIN_BYTES: usize = 1;

    fn encode(&self, out: &mut BytesMut) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let (rest, present) = bool::parse(input)?;
        if !present {
            return Ok((rest, None));
        }
        let (rest, value) = T::parse(rest)?;
        Ok((rest, Some(value)))
    }
}

impl<T: Wire> Wire for Vec<T> {
    const MIN_BYTES: usize = 4;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(wire_length(self.len()));
        for item in self {
            item.encode(out);
        }
    }

    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let (mut rest, count) = le_u32(input)?;
        check_count(count, T::MIN_BYTES, rest)?;
        let mut items = Self::with_capacity(count as usize);
        for _ in 0..count {
            let (after, item) = T::parse(rest)?;
            items.push(item);
            rest = after;
        }
        Ok((rest, items))
    }
}

/// Gives a structure its layout: its fields, in the order listed, without padding.
macro_rules! wire_fields {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::wire::Wire for $name {
            const MIN_BYTES: usize = 0 $(+ $crate::wire::min_bytes(|value: &Self| &value.$field))*;

            #[allow(unused_variables, reason = "a message may have no fields")]
            fn encode(&self, out: &mut bytes::BytesMut) {
                $($crate::wire::Wire::encode(&self.$field, out);)*
            }

            fn parse(input: &[u8]) -> $crate::wire::Parsed<'_, Self> {
                $(let (input, $field) = $crate::wire::Wire::parse(input)?;)*
                Ok((input, Self { $($field),* }))
            }
        }

        #[cfg(test)]
        $crate::generate::generate_fields!($name { $($field),* });

        #[cfg(test)]
        $crate::drawing::draw_fields!($name { $($field),* });
    };
}
pub(crate) use wire_fields;

/// [`Wire::MIN_BYTES`] of a field, named by how it is reached: `wire_fields!` knows names, not types.
pub(crate) const fn min_bytes<S, T: Wire>(_: fn(&S) -> &T) -> usize {
    T::MIN_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_the_input_is_refused_before_anything_is_allocated() {
        let four_billion = [0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        let refused = DecodeError::CountBeyondInput { declared: u64::from(u32::MAX), remaining: 3 };
        assert_eq!(Vec::<u64>::decode(&four_billion), Err(refused.clone()));
        assert_eq!(String::decode(&four_billion), Err(refused));
    }

    #[test]
    fn a_count_is_weighed_by_the_smallest_item() {
        let two_items_in_ten_bytes = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let refused = DecodeError::CountBeyondInput { declared: 2, remaining: 10 };
        assert_eq!(Vec::<u64>::decode(&two_items_in_ten_bytes), Err(refused));
    }

    #[test]
    fn a_byte_that_is_neither_yes_nor_no_is_refused() {
        assert!(matches!(bool::decode(&[2]), Err(DecodeError::InvalidTag { value: 2, .. })));
        assert!(matches!(Option::<u8>::decode(&[7, 1]), Err(DecodeError::InvalidTag { value: 7, .. })));
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        assert_eq!(String::decode(&[1, 0, 0, 0, 0xff]), Err(DecodeError::NotUtf8));
    }

    #[test]
    fn left_over_bytes_are_refused() {
        assert_eq!(u16::decode(&[1, 0, 9]), Err(DecodeError::TrailingBytes { count: 1 }));
    }

    #[test]
    fn integers_are_little_endian() {
        let mut out = BytesMut::new();
        0x0102_0304_u32.encode(&mut out);
        assert_eq!(&out[..], [4, 3, 2, 1]);
    }
}
