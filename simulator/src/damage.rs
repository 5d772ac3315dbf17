//! Damage to what a disk has held for long, done so that it can be undone.
//!
//! What holds: at any time an entry, or a vote, is damaged on a minority at most of those who decide for its shard, and of
//! those who shall once its replicas have moved, wherever else they are damaged; and only what is committed is damaged,
//! so that a majority has it. Where more is gone than that, halting is all a shard can do, and nothing is to be learned
//! from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep::random::Random;
use lockstep_storage::io::fake::Harm;
use lockstep_storage::io::{Disk, FakeDisk};

use crate::layout::{self, Holds, Range, Stretch};
use crate::node::Node;
use crate::queue::Time;
use crate::server::shard_of;
use crate::world::{World, directory};

/// What is done to a place.
#[derive(Clone, Copy)]
pub(crate) enum Means {
    FlippedBits,
    Zeros,
    Unreadable,
}

/// Damage that was done to a replica.
pub(crate) struct Damage {
    node: u64,
    shard: u64,
    holds: Holds,
    what: What,
}

/// What there is to see of it.
enum What {
    Bytes {
        harm: Harm,
        place: Stretch,
    },
    /// A file or directory is missing.
    Name(String),
}

/// Bytes of a block, at the most: what a disk loses at a time.
const BLOCK_BYTES: u64 = 4096;
/// Of so many misdirected blocks one is a segment's header in the place of another's.
const HEADERS_AMONG_MISDIRECTED: u64 = 4;
/// Places tried before the plan's damage is left out.
const TRIES: u64 = 20;

impl World {
    /// Damages something on a node's disk, whether a process runs on it or not.
    pub(crate) fn damage(&mut self, node: u64, pick: u64, means: Means) -> bool {
        let mut random = Random::new(pick);
        let shard = shard_of(random.below(self.plan.shards.into()) as u32);
        let disk = Arc::clone(&self.nodes[&node].disk);
        let stretches = layout::of_replica(&disk, shard);
        for _ in 0..TRIES {
            let Some(stretch) = choose(&stretches, &mut random) else { return false };
            let block = block_in(stretch, &mut random);
            let Some(bytes) = read(&disk, &block) else { continue };
            let done = match means {
                Means::FlippedBits => self.do_damage(node, shard, &block, &flipped(bytes, &mut random)),
                Means::Zeros => self.do_damage(node, shard, &block, &vec![0; bytes.len()]),
                Means::Unreadable => self.make_unreadable(node, shard, &block),
            };
            if done {
                return true;
            }
        }
        false
    }

    /// A block of one place stands at another, which it was not meant for; at its own place are zeros.
    pub(crate) fn misdirect(&mut self, node: u64, pick: u64) -> bool {
        let mut random = Random::new(pick);
        let mut shard = || shard_of(random.below(self.plan.shards.into()) as u32);
        let (from_shard, to_shard) = (shard(), shard());
        let disk = Arc::clone(&self.nodes[&node].disk);
        let (from, to) = (layout::of_replica(&disk, from_shard), layout::of_replica(&disk, to_shard));
        let headers = random.below(HEADERS_AMONG_MISDIRECTED) == 0;
        for _ in 0..TRIES {
            let chosen = match headers {
                true => (choose_header(&from, &mut random), choose_header(&to, &mut random)),
                false => (choose(&from, &mut random), choose(&to, &mut random)),
            };
            let (Some(meant), Some(hit)) = chosen else { return false };
            let (mut meant, mut hit) = match (headers, hit.holds) {
                (true, Holds::Header(range)) if from_shard != to_shard => {
                    (meant.clone(), Stretch { holds: Holds::Misnamed(range), ..hit.clone() })
                }
                (true, _) => (meant.clone(), hit.clone()),
                (false, _) => (block_in(meant, &mut random), block_in(hit, &mut random)),
            };
            let length = (meant.to - meant.from).min(hit.to - hit.from);
            (meant.to, hit.to) = (meant.from + length, hit.from + length);
            let Some(bytes) = read(&disk, &meant) else { continue };
            if self.may_damage(node, from_shard, meant.holds) && self.do_damage(node, to_shard, &hit, &bytes)
            {
                self.do_damage(node, from_shard, &meant, &vec![0; bytes.len()]);
                return true;
            }
        }
        false
    }

    fn do_damage(&mut self, node: u64, shard: u64, block: &Stretch, bytes: &[u8]) -> bool {
        if !self.may_damage(node, shard, block.holds) {
            return false;
        }
        let Some(harm) = self.nodes[&node].disk.corrupt(&block.path, block.from, bytes) else { return false };
        let what = What::Bytes { harm, place: block.clone() };
        self.note_damage(node, shard, block.holds, what, block);
        true
    }

    /// A block from here on cannot be read.
    fn make_unreadable(&mut self, node: u64, shard: u64, block: &Stretch) -> bool {
        let length = block.to - block.from;
        // A file that is reused takes its unreadable block along into another log, behind what that has written: its end
        // is in doubt then, and nobody could say in time on how many replicas.
        if self.plan.cluster.pool_files > 0 || !self.may_damage(node, shard, block.holds) {
            return false;
        }
        let Some(harm) = self.nodes[&node].disk.make_unreadable(&block.path, block.from, length) else {
            return false;
        };
        let what = What::Bytes { harm, place: block.clone() };
        self.note_damage(node, shard, block.holds, what, block);
        true
    }

    /// A segment or the vote is gone after a power cut. The newest segment's name is spared: that it was there cannot be
    /// told (`docs/storage-format.md`).
    pub(crate) fn lose_name(&mut self, node: u64, pick: u64, down: Time) -> bool {
        let mut random = Random::new(pick);
        let shard = shard_of(random.below(self.plan.shards.into()) as u32);
        let stretches = layout::of_replica(&self.nodes[&node].disk, shard);
        let segments = stretches.iter().filter(|stretch| matches!(stretch.holds, Holds::Header(_)));
        let segments: Vec<&Stretch> = segments.collect();
        let older = segments.get(..segments.len().saturating_sub(1)).unwrap_or_default();
        let vote =
            stretches.iter().find(|stretch| stretch.holds == Holds::Vote).filter(|_| random.below(2) == 0);
        let lost = match (vote, older.len()) {
            (Some(vote), _) => vote,
            (None, 0) => return false,
            (None, count) => older[random.below(count as u64) as usize],
        };
        self.lose(node, shard, lost, down)
    }

    /// All of a replica is gone after a power cut.
    pub(crate) fn lose_directory(&mut self, node: u64, pick: u64, down: Time) -> bool {
        let shard = shard_of((pick % u64::from(self.plan.shards)) as u32);
        let lost = Stretch { path: directory(shard), from: 0, to: 0, holds: Holds::Everything };
        self.lose(node, shard, &lost, down)
    }

    fn lose(&mut self, node: u64, shard: u64, lost: &Stretch, down: Time) -> bool {
        if !self.may_damage(node, shard, lost.holds) {
            return false;
        }
        self.cut_power(node, down);
        if !self.nodes[&node].disk.lose(&lost.path) {
            return false;
        }
        self.note_damage(node, shard, lost.holds, What::Name(lost.path.clone()), lost);
        true
    }

    fn note_damage(&mut self, node: u64, shard: u64, holds: Holds, what: What, place: &Stretch) {
        let (from, to) = (place.from, place.to);
        self.note(node, "damage", [shard, from, to], || {
            format!("shard {shard}: {} from byte {from} to {to}, {holds:?}", place.path)
        });
        self.damages.push(Damage { node, shard, holds, what });
    }

    /// Whether the other replicas can make good for it.
    fn may_damage(&self, node: u64, shard: u64, holds: Holds) -> bool {
        // Nobody else may have what is not committed. Where nothing stands behind it, a leader says what does instead.
        let committed = self.invariants.committed_index(shard);
        let last = match holds {
            Holds::Entry { index, .. } => index,
            _ => holds.range().map_or(0, |range| range.last),
        };
        if last > committed && last != u64::MAX {
            return false;
        }
        let lost_votes = self.damaged_nodes(shard, Holds::is_vote).into_iter().filter(|other| *other != node);
        let vote_left = !holds.is_vote() || lost_votes.count() == 0;
        // With the vote and the headers nothing is left that says whose directory it is.
        let is_misnamed = |holds: Holds| matches!(holds, Holds::Misnamed(_));
        let names_shard = !(holds == Holds::Vote && self.damaged_nodes(shard, is_misnamed).contains(&node)
            || is_misnamed(holds) && self.damaged_nodes(shard, Holds::is_vote).contains(&node));
        // Whoever decides, now or when the replicas have moved, needs a majority that has it.
        let electorates = self.electorates(shard).into_iter().filter(|members| members.contains(&node));
        vote_left
            && names_shard
            && electorates.into_iter().all(|members| self.majority_keeps(shard, &members, node, holds))
    }

    /// Whether a majority of `members` has all that is damaged on `node` if this is.
    fn majority_keeps(&self, shard: u64, members: &BTreeSet<u64>, node: u64, holds: Holds) -> bool {
        let with_node = |mut damaged: BTreeSet<u64>| {
            damaged.insert(node);
            damaged.intersection(members).count() * 2 < members.len()
        };
        let same_place = |range: Range| {
            self.damaged_nodes(shard, |other| other.range().is_some_and(|other| other.overlaps(range)))
        };
        let needs_leader = |holds: Holds| self.needs_leader(holds);
        holds.range().is_none_or(|range| with_node(same_place(range)))
            && (!needs_leader(holds) || with_node(self.damaged_nodes(shard, needs_leader)))
    }

    /// Whether a majority that still votes makes good for it: for a lost end, a lost vote, and for whatever nobody has to
    /// give by then, because the others' logs begin behind it.
    fn needs_leader(&self, holds: Holds) -> bool {
        holds.needs_leader() || self.plan.drops_the_oldest() && holds.range().is_some()
    }

    /// Whether whatever is damaged of a shard is whole on a majority of these nodes.
    pub(crate) fn may_be_left_with(&self, shard: u64, members: &BTreeSet<u64>) -> bool {
        let there = self.damages.iter().filter(|damage| {
            damage.shard == shard && members.contains(&damage.node) && self.is_there(damage)
        });
        there.into_iter().all(|damage| self.majority_keeps(shard, members, damage.node, damage.holds))
    }

    /// Whoever decides for a shard, as far as anybody knows, and whoever shall.
    fn electorates(&self, shard: u64) -> Vec<BTreeSet<u64>> {
        let running = |node: &Node| Some(node.process.as_ref()?.hosted.get(&shard)?.membership.clone());
        let dead = |node: &Node| Some(node.corpse.get(&shard)?.membership.clone());
        let known = self.nodes.values().filter_map(|node| running(node).or_else(|| dead(node)));
        let halves = known.flat_map(|membership| [membership.voters, membership.voters_outgoing]);
        let target = self.placements[&shard].target.clone();
        halves.map(BTreeSet::from_iter).chain([target]).collect()
    }

    /// Nodes on which such a thing is damaged still.
    fn damaged_nodes(&self, shard: u64, counts: impl Fn(Holds) -> bool) -> BTreeSet<u64> {
        let such = self.damages.iter().filter(|damage| damage.shard == shard && counts(damage.holds));
        such.filter(|damage| self.is_there(damage)).map(|damage| damage.node).collect()
    }

    /// Whether damage has not been undone yet: it can be seen, or its replica is known not to be whole.
    fn is_there(&self, damage: &Damage) -> bool {
        // What has moved elsewhere is gone with what was wrong with it.
        if !self.placements[&damage.shard].holders.contains(&damage.node) {
            return false;
        }
        let disk = &self.nodes[&damage.node].disk;
        let is_seen = match &damage.what {
            What::Bytes { harm, .. } => disk.is_harmed(*harm),
            What::Name(path) => !disk.exists(path).unwrap_or(false),
        };
        is_seen || self.is_marked(damage.node, damage.shard)
    }

    /// Whether the log has no part in that place any more. Where the next segment's header is lost and this one's end
    /// cannot be read, a repair writes the next one anew from the last entry before: whatever else stood here is in
    /// that one then, and neither recovery nor the scrub nor a reader comes here again.
    fn is_left_behind(&self, damage: &Damage) -> bool {
        let What::Bytes { place, .. } = &damage.what else { return false };
        let disk = &self.nodes[&damage.node].disk;
        !self.is_marked(damage.node, damage.shard) && layout::is_behind_end(disk, damage.shard, place)
    }

    /// A log was opened: it has all its segments. One that was made anew numbers them anew.
    pub(crate) fn has_all_segments(&mut self, node: u64, shard: u64) {
        let is_undone = |damage: &Damage| {
            let is_segment = matches!(&damage.what, What::Name(path) if path.ends_with(".segment"));
            is_segment && (damage.node, damage.shard) == (node, shard)
        };
        self.damages.retain(|damage| !is_undone(damage));
    }

    /// Whether a replica is marked as faulty on its disk.
    pub(crate) fn is_marked(&self, node: u64, shard: u64) -> bool {
        self.nodes[&node].disk.exists(&format!("{}.faulty", directory(shard))).unwrap_or(false)
    }

    /// Whether damage explains that a replica is faulty.
    pub(crate) fn is_damaged(&self, node: u64, shard: u64) -> bool {
        self.damages
            .iter()
            .any(|damage| (damage.node, damage.shard) == (node, shard) && self.is_there(damage))
    }

    /// Nodes on whose disks anything is damaged still.
    pub(crate) fn damaged(&self) -> BTreeSet<u64> {
        let left = self.damages.iter().filter(|damage| self.is_there(damage));
        left.map(|damage| damage.node).collect()
    }

    /// Nodes with entries that are damaged still, and what of them.
    pub(crate) fn unrepaired(&self) -> BTreeMap<u64, String> {
        let left = self
            .damages
            .iter()
            .filter(|damage| damage.holds.is_needed())
            .filter(|damage| self.is_there(damage) && !self.is_left_behind(damage));
        left.map(|Damage { node, shard, holds, .. }| {
            (*node, format!("shard {shard} of node {node}: {holds:?}"))
        })
        .collect()
    }
}

/// Entries mostly, for there are most of them; but everything else too.
fn choose<'a>(stretches: &'a [Stretch], random: &mut Random) -> Option<&'a Stretch> {
    let wanted: fn(&Holds) -> bool = match random.below(10) {
        0 => |holds| matches!(holds, Holds::Header(_)),
        1 => |holds| matches!(holds, Holds::Vote),
        2 => |holds| matches!(holds, Holds::Nothing | Holds::Mark | Holds::Spent(_) | Holds::Seal(_)),
        _ => |holds| matches!(holds, Holds::Entry { .. }),
    };
    let such: Vec<&Stretch> = stretches.iter().filter(|stretch| wanted(&stretch.holds)).collect();
    match such.len() {
        0 => None,
        count => Some(such[random.below(count as u64) as usize]),
    }
}

fn choose_header<'a>(stretches: &'a [Stretch], random: &mut Random) -> Option<&'a Stretch> {
    let headers = stretches.iter().filter(|stretch| matches!(stretch.holds, Holds::Header(_)));
    let headers: Vec<&Stretch> = headers.collect();
    headers.get(random.below(headers.len() as u64) as usize).copied()
}

/// Part of a stretch, or all of it.
fn block_in(stretch: &Stretch, random: &mut Random) -> Stretch {
    let length = (stretch.to - stretch.from).min(BLOCK_BYTES >> random.below(8));
    let from = stretch.from + random.below(stretch.to - stretch.from - length + 1);
    Stretch { from, to: from + length, ..stretch.clone() }
}

fn read(disk: &FakeDisk, block: &Stretch) -> Option<Vec<u8>> {
    let bytes = disk.durable_bytes(&block.path)?;
    bytes.get(block.from as usize..block.to as usize).map(<[u8]>::to_vec)
}

/// One to three bits.
fn flipped(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
    }
    bytes
}
