//! The vote file: two copies, of which the newer whole one counts.

use lockstep_storage::vote::VOTE_FILE_NAME;
use lockstep_storage::{RecoveryError, Vote};

use super::super::choices::Choices;
use super::common::small_options;
use super::directory::{formatted, put, recover_silently};

const BLOCK_BYTES: usize = 4096;
const COPY_BYTES: usize = 48;

/// Any bytes, or two copies with right checksums.
pub fn file(input: &[u8]) {
    let mut choices = Choices::new(input);
    let options = small_options();
    let disk = formatted(&options);
    let mut expected: Option<(u64, Vote)> = None;
    let contents = if choices.flag() {
        let mut contents = vec![0; 2 * BLOCK_BYTES];
        for block in 0..2 {
            let (copy, vote) = copy(&mut choices, options.shard);
            contents[block * BLOCK_BYTES..][..COPY_BYTES].copy_from_slice(&copy);
            // Of two with the same number the first counts: they hold the same vote, unless somebody made them up.
            expected = match (expected, vote) {
                (Some(one), Some(other)) if other.0 > one.0 => Some(other),
                (None, other) => other,
                (one, _) => one,
            };
        }
        contents
    } else {
        choices.rest().to_vec()
    };
    put(&disk, VOTE_FILE_NAME, &contents);
    match recover_silently(&disk, &options) {
        Ok(recovered) => {
            if let Some((_, vote)) = expected {
                assert_eq!((recovered.vote.term, recovered.vote.voted_for), (vote.term, vote.voted_for));
            }
            let vote = recovered.vote;
            drop(recovered);
            disk.restart(7);
            let again = recover_silently(&disk, &options).expect("both copies are whole now");
            assert_eq!(again.vote, vote);
        }
        Err(RecoveryError::VoteLost { .. }) => assert_eq!(expected, None, "a whole copy is a vote"),
        Err(error) => panic!("only the vote can be wrong: {error}"),
    }
}

/// One copy, and what it says if it is whole.
fn copy(choices: &mut Choices, shard: u64) -> ([u8; COPY_BYTES], Option<(u64, Vote)>) {
    let form = choices.byte();
    let shard = if form & 1 == 0 { shard } else { choices.number() };
    let sequence = choices.number();
    let vote = Vote { term: choices.number(), voted_for: choices.number(), commit: choices.number() };
    let mut copy = [0; COPY_BYTES];
    copy[4..8].copy_from_slice(b"LKVT");
    let numbers = [sequence, shard, vote.term, vote.voted_for, vote.commit];
    for (place, number) in copy[8..].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let crc = crc32c::crc32c(&copy[4..]);
    copy[..4].copy_from_slice(&crc.to_le_bytes());
    let broken = form & 2 != 0;
    if broken {
        copy[choices.below(COPY_BYTES as u64) as usize] ^= 1 << choices.below(8);
    }
    let greatest = i64::MAX as u64;
    let possible = sequence < greatest && vote.term <= greatest && vote.commit <= greatest;
    let whole = !broken && possible && shard == small_options().shard;
    (copy, whole.then_some((sequence, vote)))
}
