//! An input read as a row of choices, for targets that need structure rather than bytes.

use bytes::Bytes;

/// What is left of an input. Once it is used up, every choice is the first one.
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// All of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Whether nothing is left to choose with.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// Whether the next byte is odd.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `limit`, from as few bytes as it takes; 0 for a limit of 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        let number = match limit {
            0..=0x100 => u64::from(self.byte()),
            0x101..=0x1_0000 => u64::from(u16::from_le_bytes(self.array())),
            _ => u64::from_le_bytes(self.array()),
        };
        number % limit.max(1)
    }

    /// Mostly a small number, now and then one near a limit that matters.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..240 => u64::from(small),
            240..244 => self.below(u64::MAX),
            244 => u64::MAX,
            245 => u64::MAX - 1,
            246 => i64::MAX as u64,
            247 => 1 << 63,
            248 => u64::from(u32::MAX),
            249 => i32::MAX as u64,
            250 => i32::MAX as u64 + 1,
            _ => self.below(0x1_0000),
        }
    }

    /// The next `length` bytes, or as many as there are.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Up to `limit` − 1 bytes, as many as the next choice says.
    pub fn bytes(&mut self, limit: u64) -> Bytes {
        let length = self.below(limit) as usize;
        Bytes::copy_from_slice(self.take(length))
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next bytes, filled up with zeros.
    pub fn array<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        let mut array = [0; LENGTH];
        let taken = self.take(LENGTH);
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}
