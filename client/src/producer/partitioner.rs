//! Which partition a record goes to.
//!
//! What holds: equal keys of a topic go to the same partition for as long as the number of partitions stays,
//! and to the one Kafka's default partitioner picks, so that both protocols agree.

/// Seed of Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`).
const SEED: u32 = 0x9747_b28c;
/// Murmur2's multiplier.
const MULTIPLIER: u32 = 0x5bd1_e995;
/// Murmur2's shift.
const SHIFT: u32 = 24;

/// Murmur2, 32 bits, as Kafka's clients compute it (Austin Appleby's algorithm, Kafka's seed).
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    for (position, byte) in tail.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * position);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The partition for a key: murmur2 without its sign bit, modulo the number of partitions.
///
/// `partitions` of 0 counts as 1.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_gives_the_values_of_kafkas_tests() {
        let expected: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (data, hash) in expected {
            assert_eq!(murmur2(data), hash.cast_unsigned(), "{}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn every_partition_is_in_range_and_all_are_used() {
        let mut used = [0; 7];
        for key in 0_u32..10_000 {
            used[partition_for_key(&key.to_le_bytes(), 7) as usize] += 1;
        }
        assert!(used.iter().all(|count| *count > 1_000), "{used:?}");
    }

    #[test]
    fn no_partitions_count_as_one() {
        assert_eq!(partition_for_key(b"key", 0), 0);
    }
}
