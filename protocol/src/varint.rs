//! Kafka's variable-length integers: zigzag, then seven bits a byte, lowest first (Protocol Buffers' `sint`).

use bytes::{BufMut, BytesMut};
use nom::number::complete::be_u8;

use crate::wire::{DecodeError, Parsed, refuse};

/// Longest encoding of 64 bits.
const VARINT_BYTES_MAX: u32 = 10;

/// Appends `value`.
pub(crate) fn put_varint(value: i64, out: &mut BytesMut) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.put_u8((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Bytes that [`put_varint`] appends.
pub(crate) fn varint_bytes(value: i64) -> usize {
    let bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(zigzag: u64) -> i64 {
    ((zigzag >> 1) as i64) ^ -((zigzag & 1) as i64)
}

/// Takes a 64-bit integer.
#[inline]
pub(crate) fn varlong(input: &[u8]) -> Parsed<'_, i64> {
    // Nearly all of a record's integers take one byte, and a batch is walked integer by integer.
    if let [byte @ 0..0x80, rest @ ..] = input {
        return Ok((rest, unzigzag(u64::from(*byte))));
    }
    long_varlong(input)
}

fn long_varlong(mut input: &[u8]) -> Parsed<'_, i64> {
    let mut zigzag = 0_u64;
    for index in 0..VARINT_BYTES_MAX {
        let (rest, byte) = be_u8(input)?;
        input = rest;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * index);
        if shifted >> (7 * index) != bits {
            break;
        }
        zigzag |= shifted;
        if byte & 0x80 == 0 {
            return Ok((input, unzigzag(zigzag)));
        }
    }
    refuse(DecodeError::InvalidTag { what: "variable-length integer", value: zigzag })
}

/// Takes a 32-bit integer; the same encoding, and a value that fits.
#[inline]
pub(crate) fn varint(input: &[u8]) -> Parsed<'_, i32> {
    let (rest, value) = varlong(input)?;
    match i32::try_from(value) {
        Ok(value) => Ok((rest, value)),
        Err(_) => refuse(DecodeError::InvalidTag { what: "32-bit integer", value: value as u64 }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_integer_comes_back_and_has_the_length_foretold(value: i64) {
            let mut out = BytesMut::new();
            put_varint(value, &mut out);
            prop_assert_eq!(out.len(), varint_bytes(value));
            prop_assert_eq!(varlong(&out), Ok((&[][..], value)));
        }
    }

    #[test]
    fn the_specifications_examples_encode_as_written() {
        for (value, expected) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (63, &[0x7e]), (64, &[0x80, 1])] {
            let mut out = BytesMut::new();
            put_varint(value, &mut out);
            assert_eq!(&out[..], expected, "{value}");
        }
    }

    #[test]
    fn an_integer_that_never_ends_or_overflows_is_refused() {
        assert!(varlong(&[0xff; 11]).is_err());
        assert!(varlong(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).is_err());
        assert!(varlong(&[0x80]).is_err());
        assert!(varint(&[0xff, 0xff, 0xff, 0xff, 0x1f]).is_err());
    }
}
