//! The copies of a shard that were looked at together: what is damaged in all of them no peer can give back.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use lockstep_storage::Survey;
use serde_json::json;

use crate::cli::exit::CliError;
use crate::cli::output::Output;

const RESTORE: &str = "if these are all the replicas, no peer can give them back, and the shard stops rather than go on \
                       without them: restore the files of one replica from a backup";

/// By shard, what each of its copies lacks and has.
#[derive(Default)]
pub(super) struct Copies(BTreeMap<u64, Vec<Copy>>);

struct Copy {
    missing: Vec<RangeInclusive<u64>>,
    intact: Vec<RangeInclusive<u64>>,
}

impl Copies {
    /// Takes note of one copy.
    pub(super) fn note(&mut self, shard: u64, survey: &Survey) {
        let proven = survey.proven_synced_index();
        let missing = survey.holes().iter().map(|hole| {
            let first = hole.first_index().unwrap_or(hole.last_index.unwrap_or(proven));
            first..=hole.last_index.unwrap_or(proven.max(first))
        });
        let copy = Copy { missing: missing.collect(), intact: survey.intact() };
        self.0.entry(shard).or_default().push(copy);
    }

    /// Says of each shard with more than one copy what all of them lack.
    pub(super) fn report(&self, dir: &Path, output: &mut Output) -> Result<(), CliError> {
        for (shard, copies) in self.0.iter().filter(|(_, copies)| copies.len() > 1) {
            for lost in lost_everywhere(copies) {
                let (first, last, count) = (lost.start(), lost.end(), copies.len());
                let json = json!({
                    "kind": "lost_everywhere", "shard": shard, "copies": count,
                    "first_index": first, "last_index": last, "what_to_do": RESTORE,
                });
                let dir = dir.display();
                output.answer(&json, || {
                    format!(
                        "shard {shard}: entries {first}–{last} are damaged in each of the {count} copies below {dir}\
                         \n    → {RESTORE}"
                    )
                })?;
            }
        }
        Ok(())
    }
}

/// What is missing in some copy and intact in none.
fn lost_everywhere(copies: &[Copy]) -> Vec<RangeInclusive<u64>> {
    let mut missing: Vec<_> = copies.iter().flat_map(|copy| copy.missing.iter().cloned()).collect();
    let mut intact: Vec<_> = copies.iter().flat_map(|copy| copy.intact.iter().cloned()).collect();
    missing.sort_unstable_by_key(|range| *range.start());
    intact.sort_unstable_by_key(|range| *range.start());
    let (mut lost, mut next) = (Vec::new(), 0);
    for range in missing {
        let mut from = next.max(*range.start());
        for has in intact.iter().filter(|has| has.start() <= range.end() && has.end() >= range.start()) {
            if *has.start() > from {
                lost.push(from..=has.start() - 1);
            }
            from = from.max(has.end().saturating_add(1));
        }
        if from <= *range.end() {
            lost.push(from..=*range.end());
        }
        next = next.max(range.end().saturating_add(1));
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_copy_has_is_lost() {
        let copy = |missing: &[(u64, u64)], intact: &[(u64, u64)]| {
            let ranges = |pairs: &[(u64, u64)]| pairs.iter().map(|(low, high)| *low..=*high).collect();
            Copy { missing: ranges(missing), intact: ranges(intact) }
        };
        let disjoint = [copy(&[(3, 5)], &[(1, 2), (6, 9)]), copy(&[(6, 7)], &[(1, 5), (8, 9)])];
        assert_eq!(lost_everywhere(&disjoint), []);
        let overlapping = [copy(&[(3, 5)], &[(1, 2), (6, 9)]), copy(&[(4, 7)], &[(1, 3), (8, 9)])];
        assert_eq!(lost_everywhere(&overlapping), [4..=5]);
        let behind = [copy(&[(3, 9)], &[(1, 2)]), copy(&[], &[(1, 5)])];
        assert_eq!(lost_everywhere(&behind), [6..=9]);
        let trimmed = [copy(&[(3, 4), (8, 8)], &[(1, 2), (5, 7)]), copy(&[(3, 8)], &[(9, 9)])];
        assert_eq!(lost_everywhere(&trimmed), [3..=4, 8..=8]);
    }
}
