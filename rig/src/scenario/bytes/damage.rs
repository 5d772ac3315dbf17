//! What can be damaged in a stopped broker's directory, and where that is: a plan of edits, made without touching
//! anything.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::RigError;
use crate::random::Random;

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The header of a segment that has a successor.
    SealedHeader,
    /// The header of the newest segment.
    NewestHeader,
    /// A frame's header in a segment that has a successor.
    SealedFrame,
    /// A batch's bytes there.
    SealedBody,
    /// The index that ends a segment.
    Footer,
    /// A frame's header in the newest segment, below its seal.
    NewestFrame,
    /// A batch's bytes there.
    NewestBody,
    /// The seal that a clean stop left.
    Seal,
    /// The older copy of term and vote, or the first.
    VoteFirst,
    /// The other copy.
    VoteSecond,
    /// Both copies.
    VoteBoth,
    /// Whose directory it is.
    Identity,
    /// Which shards are here.
    Shards,
    /// Whose directories the peers have.
    Peers,
    /// A segment file between two lives.
    Pool,
}

impl Target {
    /// All there are.
    pub const ALL: [Self; 15] = [
        Self::SealedHeader,
        Self::NewestHeader,
        Self::SealedFrame,
        Self::SealedBody,
        Self::Footer,
        Self::NewestFrame,
        Self::NewestBody,
        Self::Seal,
        Self::VoteFirst,
        Self::VoteSecond,
        Self::VoteBoth,
        Self::Identity,
        Self::Shards,
        Self::Peers,
        Self::Pool,
    ];

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SealedHeader => "header of an older segment",
            Self::NewestHeader => "header of the newest segment",
            Self::SealedFrame => "frame header, older segment",
            Self::SealedBody => "batch, older segment",
            Self::Footer => "footer",
            Self::NewestFrame => "frame header below the seal",
            Self::NewestBody => "batch below the seal",
            Self::Seal => "seal",
            Self::VoteFirst => "vote, first copy",
            Self::VoteSecond => "vote, second copy",
            Self::VoteBoth => "vote, both copies",
            Self::Identity => "identity.json",
            Self::Shards => "shards.json",
            Self::Peers => "peers.json",
            Self::Pool => "file in the pool",
        }
    }

    /// What can be done to it: what is shorter by a part is not the same thing any more where that is the frames.
    #[must_use]
    pub fn manners(self) -> &'static [Manner] {
        match self {
            Self::SealedBody
            | Self::SealedFrame
            | Self::NewestFrame
            | Self::Identity
            | Self::Shards
            | Self::Peers => &[Manner::Flip, Manner::Zero, Manner::Truncate],
            _ => &[Manner::Flip, Manner::Zero],
        }
    }
}

/// How it is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// One bit is another.
    Flip,
    /// Some bytes are zero.
    Zero,
    /// The file ends there.
    Truncate,
}

/// One change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Which file.
    pub file: PathBuf,
    /// From which byte on.
    pub position: u64,
    /// How many bytes it concerns.
    pub length: u64,
    /// How.
    pub manner: Manner,
}

/// A frame of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    kind: String,
    position: u64,
    body_bytes: u64,
}

/// A segment of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    file: PathBuf,
    frames: Vec<Frame>,
}

/// A broker's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    data: PathBuf,
    shard: PathBuf,
    segments: Vec<Segment>,
    pool: Vec<PathBuf>,
}

const ENVELOPE_AND_HEADER_BYTES: u64 = 96;
const VOTE_COPY_BYTES: u64 = 4096;

impl Layout {
    /// From what `lockstep log inspect --json` says of the shard in `data/shards/SHARD`, and the names in the pool.
    #[must_use]
    pub fn parse(data: &Path, shard: u64, inspected: &str, pool: Vec<PathBuf>) -> Self {
        let directory = data.join("shards").join(shard.to_string());
        let mut segments: Vec<Segment> = Vec::new();
        for line in inspected.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let kind = line["kind"].as_str().unwrap_or_default();
            if kind == "segment" {
                let name =
                    Path::new(line["file"].as_str().unwrap_or_default()).file_name().unwrap_or_default();
                segments.push(Segment { file: directory.join(name), frames: Vec::new() });
            } else if let (Some(segment), Some(position), Some(body_bytes)) =
                (segments.last_mut(), line["position"].as_u64(), line["body_bytes"].as_u64())
            {
                segment.frames.push(Frame { kind: kind.to_owned(), position, body_bytes });
            }
        }
        Self { data: data.to_owned(), shard: directory, segments, pool }
    }

    /// The edits that damage a target; none where it is not there.
    pub fn plan(&self, target: Target, manner: Manner, random: &mut Random) -> Vec<Edit> {
        let (newest, older) = match self.segments.split_last() {
            Some((newest, older)) if !older.is_empty() => (newest, older),
            _ => return Vec::new(),
        };
        let edit = |file: &Path, position, length| Edit { file: file.to_owned(), position, length, manner };
        let vote = self.shard.join("vote");
        match target {
            Target::SealedHeader => vec![edit(&random.choose(older).file, 16, 64)],
            Target::NewestHeader => vec![edit(&newest.file, 16, 64)],
            Target::SealedFrame => {
                frame(random.choose(older), "batch", 0.8, edit, |frame| (frame.position + 16, 24))
            }
            Target::SealedBody => frame(random.choose(older), "batch", 0.5, edit, body),
            Target::Footer => {
                frame(random.choose(older), "footer", 1.0, edit, |frame| (frame.position + 60, 40))
            }
            Target::NewestFrame => frame(newest, "batch", 0.5, edit, |frame| (frame.position + 16, 24)),
            Target::NewestBody => frame(newest, "batch", 0.5, edit, body),
            Target::Seal => frame(newest, "seal", 1.0, edit, |frame| (frame.position + 16, 24)),
            Target::VoteFirst => vec![edit(&vote, 20, 16)],
            Target::VoteSecond => vec![edit(&vote, VOTE_COPY_BYTES + 20, 16)],
            Target::VoteBoth => vec![edit(&vote, 20, 16), edit(&vote, VOTE_COPY_BYTES + 20, 16)],
            Target::Identity => vec![edit(&self.data.join("identity.json"), 30, 8)],
            Target::Shards => vec![edit(&self.data.join("shards.json"), 1, 1)],
            Target::Peers => vec![edit(&self.data.join("peers.json"), 6, 8)],
            Target::Pool => self.pool.first().map(|file| edit(file, 100, 512)).into_iter().collect(),
        }
    }

    /// Batches in the newest segment.
    #[must_use]
    pub fn newest_batches(&self) -> usize {
        let batches = |segment: &Segment| segment.frames.iter().filter(|frame| frame.kind == "batch").count();
        self.segments.last().map_or(0, batches)
    }

    /// Damage of a batch in the newest segment, in the given part of three: replicas that are damaged in different
    /// parts have every entry between them.
    #[must_use]
    pub fn plan_part(&self, part: usize) -> Vec<Edit> {
        let Some(newest) = self.segments.last() else { return Vec::new() };
        let edit = |file: &Path, position, length| Edit {
            file: file.to_owned(),
            position,
            length,
            manner: Manner::Zero,
        };
        frame(newest, "batch", 0.2 + 0.3 * part as f64, edit, body)
    }
}

/// An edit of the frame of a kind that stands at this share of them.
fn frame(
    segment: &Segment,
    kind: &str,
    share: f64,
    edit: impl Fn(&Path, u64, u64) -> Edit,
    place: impl Fn(&Frame) -> (u64, u64),
) -> Vec<Edit> {
    let frames: Vec<&Frame> = segment.frames.iter().filter(|frame| frame.kind == kind).collect();
    let at = (frames.len().saturating_sub(1) as f64 * share) as usize;
    frames
        .get(at)
        .map(|frame| place(frame))
        .map(|(from, length)| edit(&segment.file, from, length))
        .into_iter()
        .collect()
}

fn body(frame: &Frame) -> (u64, u64) {
    (frame.position + ENVELOPE_AND_HEADER_BYTES + frame.body_bytes / 2, (frame.body_bytes / 4).clamp(1, 64))
}

impl Edit {
    /// Makes it.
    ///
    /// # Errors
    /// The file cannot be changed.
    pub fn make(&self, random: &mut Random) -> Result<(), RigError> {
        let failed = || RigError::file(&self.file);
        let file = OpenOptions::new().read(true).write(true).open(&self.file).map_err(failed())?;
        match self.manner {
            Manner::Truncate => file.set_len(self.position),
            Manner::Zero => {
                file.write_all_at(&vec![0; usize::try_from(self.length).unwrap_or(0)], self.position)
            }
            Manner::Flip => {
                let at = self.position + random.below(self.length);
                let mut byte = [0];
                let flip = file.read_exact_at(&mut byte, at);
                flip.and_then(|()| file.write_all_at(&[byte[0] ^ (1 << random.below(8))], at))
            }
        }
        .map_err(failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSPECTED: &str = r#"
{"kind":"segment","file":"7/00000000000000000001.segment","bytes":9000}
{"kind":"batch","position":4096,"body_bytes":1000}
{"kind":"footer","position":5192,"body_bytes":100}
{"kind":"end","position":5340}
{"kind":"segment","file":"7/00000000000000000002.segment","bytes":9000}
{"kind":"system","position":4096,"body_bytes":0}
{"kind":"batch","position":4144,"body_bytes":400}
{"kind":"batch","position":4640,"body_bytes":400}
{"kind":"seal","position":5136,"body_bytes":8}
{"kind":"summary"}"#;

    fn layout() -> Layout {
        Layout::parse(Path::new("/d"), 7, INSPECTED, vec!["/d/recycle/1.free".into()])
    }

    #[test]
    fn every_target_is_found_in_its_own_file_and_within_it() {
        let mut random = Random::new(1);
        for target in Target::ALL {
            let edits = layout().plan(target, Manner::Zero, &mut random);
            assert!(!edits.is_empty(), "{}", target.name());
            for edit in
                edits.iter().filter(|edit| edit.file.extension().is_some_and(|kind| kind == "segment"))
            {
                assert!(edit.position + edit.length <= 5340, "{edit:?}");
            }
        }
        let body = &layout().plan(Target::SealedBody, Manner::Flip, &mut random)[0];
        assert_eq!(body.file, Path::new("/d/shards/7/00000000000000000001.segment"));
        assert!((4192..5192).contains(&body.position), "{body:?}");
        assert_eq!(layout().plan(Target::VoteBoth, Manner::Zero, &mut random).len(), 2);
    }

    #[test]
    fn parts_are_disjoint() {
        let batch =
            |at: u64| format!("{{\"kind\":\"batch\",\"position\":{},\"body_bytes\":400}}\n", 4096 + at * 496);
        let frames: String = (0..10).map(batch).collect();
        let inspected = format!("{{\"kind\":\"segment\",\"file\":\"7/1.segment\"}}\n{frames}");
        let layout = Layout::parse(Path::new("/d"), 7, &inspected, Vec::new());
        let places: Vec<u64> = (0..3).map(|part| layout.plan_part(part)[0].position).collect();
        assert!(places[0] + 496 <= places[1] && places[1] + 496 <= places[2], "{places:?}");
    }

    #[test]
    fn edits_change_what_they_say_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let after = |manner| {
            std::fs::write(&file, [0xAA; 100]).unwrap();
            let edit = Edit { file: file.clone(), position: 10, length: 4, manner };
            edit.make(&mut Random::new(2)).unwrap();
            std::fs::read(&file).unwrap()
        };
        let flipped = after(Manner::Flip);
        let bits: u32 = flipped.iter().map(|byte| (byte ^ 0xAA).count_ones()).sum();
        assert_eq!((flipped.len(), bits), (100, 1));
        assert_eq!(after(Manner::Zero)[9..15], [0xAA, 0, 0, 0, 0, 0xAA]);
        assert_eq!(after(Manner::Truncate).len(), 10);
    }
}
