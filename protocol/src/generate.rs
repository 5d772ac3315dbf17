//! Random values of every wire type, drawn from one seed; for tests.

use bytes::Bytes;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::error_code::ErrorCode;
use crate::outcome::ErrorOutcome;

/// Where generated values come from.
pub(crate) struct Source(TestRng);

impl Source {
    /// The same seed gives the same values.
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// A number from 0 to `bound` − 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    /// Up to `bound` − 1 random bytes.
    pub(crate) fn bytes(&mut self, bound: usize) -> Bytes {
        let mut bytes = vec![0; self.below(bound)];
        self.0.fill_bytes(&mut bytes);
        bytes.into()
    }
}

/// A type that can be drawn at random.
pub(crate) trait Generate: Sized {
    fn generate(source: &mut Source) -> Self;
}

/// Draws each field of a structure.
macro_rules! generate_fields {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::generate::Generate for $name {
            #[allow(unused_variables, reason = "a message may have no fields")]
            fn generate(source: &mut $crate::generate::Source) -> Self {
                Self { $($field: $crate::generate::Generate::generate(source)),* }
            }
        }
    };
}
pub(crate) use generate_fields;

macro_rules! generate_integers {
    ($($integer:ty),+) => {$(
        /// Often an extreme, else anything.
        impl Generate for $integer {
            fn generate(source: &mut Source) -> Self {
                match source.below(8) {
                    0 => 0,
                    1 => Self::MAX,
                    2 => Self::MIN,
                    _ => source.0.next_u64() as Self,
                }
            }
        }
    )+};
}

generate_integers!(u8, u16, u32, u64, i16, i32, i64);

impl Generate for bool {
    fn generate(source: &mut Source) -> Self {
        source.below(2) == 1
    }
}

impl Generate for [u8; 16] {
    fn generate(source: &mut Source) -> Self {
        let mut id = [0; 16];
        source.0.fill_bytes(&mut id);
        id
    }
}

impl Generate for String {
    fn generate(source: &mut Source) -> Self {
        let alphabet = ['a', 'Z', '0', '.', '-', 'é', '線', '\u{0}'];
        (0..source.below(12)).map(|_| alphabet[source.below(alphabet.len())]).collect()
    }
}

impl Generate for Bytes {
    fn generate(source: &mut Source) -> Self {
        source.bytes(64)
    }
}

impl<T: Generate> Generate for Option<T> {
    fn generate(source: &mut Source) -> Self {
        bool::generate(source).then(|| T::generate(source))
    }
}

impl<T: Generate> Generate for Vec<T> {
    fn generate(source: &mut Source) -> Self {
        (0..source.below(4)).map(|_| T::generate(source)).collect()
    }
}

impl Generate for ErrorOutcome {
    fn generate(source: &mut Source) -> Self {
        Self {
            code: ErrorCode::ALL[source.below(ErrorCode::ALL.len())],
            message: Generate::generate(source),
            hint: Generate::generate(source),
            detail: Generate::generate(source),
        }
    }
}

impl<T: Generate> Generate for Result<T, ErrorOutcome> {
    fn generate(source: &mut Source) -> Self {
        if bool::generate(source) { Ok(T::generate(source)) } else { Err(ErrorOutcome::generate(source)) }
    }
}
