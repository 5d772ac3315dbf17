//! Seeded mutations of kept inputs: inputs without the fuzzer.

use lockstep::random::Random;

/// Numbers near a limit that matters.
const LIMITS: [u64; 8] = [0, 1, 0x7F, 0xFF, 0xFFFF, i32::MAX as u64, u32::MAX as u64, i64::MAX as u64];

/// One of `kept` with a few bytes changed, removed, repeated or taken from another one, in place of what `bytes` held.
pub fn mutate(kept: &[Vec<u8>], random: &mut Random, bytes_max: usize, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend_from_slice(one_of(kept, random));
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len() as u64) as usize;
        let end = at + random.below((bytes.len() - at) as u64 + 1) as usize;
        match random.below(8) {
            0 => drop(bytes.drain(at..end.min(at + 8))),
            1 => bytes.insert(at, random.next_u64() as u8),
            2 => bytes.truncate(end),
            3 => bytes.extend_from_within(at..end),
            4 => {
                let number = LIMITS[random.below(LIMITS.len() as u64) as usize];
                let number = number.wrapping_add(random.below(3)).wrapping_sub(1).to_le_bytes();
                overwrite(bytes, at, &number[..1 << random.below(4)]);
            }
            5 => {
                let other = one_of(kept, random);
                let from = random.below(other.len() as u64) as usize;
                overwrite(bytes, at, &other[from..]);
            }
            _ if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    bytes.truncate(bytes_max);
}

fn one_of<'k>(kept: &'k [Vec<u8>], random: &mut Random) -> &'k [u8] {
    kept.get(random.below(kept.len() as u64) as usize).map_or(&[], Vec::as_slice)
}

/// Puts `part` over what stands at `at`, and behind it.
fn overwrite(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    let over = part.len().min(bytes.len() - at);
    bytes[at..at + over].copy_from_slice(&part[..over]);
    bytes.extend_from_slice(&part[over..]);
}
