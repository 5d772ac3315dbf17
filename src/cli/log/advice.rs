//! What is wrong with a log, and what to do about it.

use lockstep_storage::{Hole, Survey};
use serde_json::{Value, json};

const KEEP: &str = "Do not delete or edit anything: what is intact here may be what a peer lacks";
const FILL: &str = "start the broker: it fetches these entries from its peers, proves them by the chain, and takes \
                    part again";
const REWRITE: &str = "start the broker: no entry is missing, and it writes the segment anew";
const FOLLOW: &str = "start the broker: its leader says through where this replica had acknowledged, and it fetches \
                      all from here on; until then it takes no part";
const BEGIN_ANEW: &str = "start the broker: it begins anew from a peer's oldest checkpoint, and takes no part until \
                          it has all that it had acknowledged";
const VOTE: &str = "start the broker: it votes again once its peers have told it of their terms; without them it \
                    must not, so do not delete the file";
const LOOK: &str = "start the broker: it surveys the log and fetches from its peers what is missing";
const CUT: &str = "nothing to do: no sync had covered them, and the broker cuts them when it starts";
const GO_ON: &str = "start the broker to finish it";

/// One thing worth knowing.
pub(super) struct Advice {
    /// For scripts: `hole`, `header_lost`, `open_end`, `vote_lost`, `unreadable`, `torn_tail`, `repair_begun`.
    pub(super) kind: &'static str,
    /// Whether something that was synced is gone.
    pub(super) is_damage: bool,
    pub(super) file: String,
    pub(super) position: u64,
    /// The first entry missing and the last, where they are known.
    pub(super) entries: (Option<u64>, Option<u64>),
    pub(super) why: String,
    pub(super) what_to_do: String,
}

impl Advice {
    fn new(kind: &'static str, file: String, position: u64, why: &str, what_to_do: &str) -> Self {
        let (why, what_to_do) = (why.to_owned(), what_to_do.to_owned());
        Self { kind, is_damage: true, file, position, entries: (None, None), why, what_to_do }
    }

    /// Whatever a survey found, in the order of the log.
    pub(super) fn of_survey(survey: &Survey, shown: impl Fn(&str) -> String) -> Vec<Self> {
        let mut advice: Vec<Self> =
            survey.holes().iter().map(|hole| Self::of_hole(hole, survey, &shown)).collect();
        if survey.vote().is_none() {
            advice.push(Self::new("vote_lost", shown("vote"), 0, "neither copy of the vote is whole", VOTE));
        }
        advice
    }

    fn of_hole(hole: &Hole, survey: &Survey, shown: impl Fn(&str) -> String) -> Self {
        let (kind, what_to_do) = match hole {
            hole if !hole.is_closed() && survey.tip().is_none() => ("open_end", BEGIN_ANEW),
            hole if !hole.is_closed() => ("open_end", FOLLOW),
            hole if hole.is_empty() => ("hole", REWRITE),
            hole if hole.header_lost => ("header_lost", FILL),
            _ => ("hole", FILL),
        };
        let name = hole.file.rsplit('/').next().unwrap_or(&hole.file);
        let entries = (hole.first_index(), hole.last_index);
        let entries = if hole.is_empty() { (None, None) } else { entries };
        Self { entries, ..Self::new(kind, shown(name), hole.position, hole.why, what_to_do) }
    }

    /// Damage that a survey could not judge, or did not see.
    pub(super) fn unreadable(file: String, position: u64, why: &str) -> Self {
        Self::new("unreadable", file, position, why, LOOK)
    }

    /// The same, where the reason says what to do.
    pub(super) fn refused(file: String, why: &str) -> Self {
        Self::new("unreadable", file, 0, why, KEEP)
    }

    pub(super) fn torn_tail(file: String, position: u64, bytes: u64) -> Self {
        let why = format!("{bytes} bytes behind the last frame are unused, or a write that was torn");
        Self { is_damage: false, ..Self::new("torn_tail", file, position, &why, CUT) }
    }

    pub(super) fn repair_begun(directory: String) -> Self {
        let why = "a repair has begun and put segments aside here";
        Self { is_damage: false, ..Self::new("repair_begun", directory, 0, why, GO_ON) }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "kind": self.kind, "file": self.file, "position": self.position,
            "first_index": self.entries.0, "last_index": self.entries.1,
            "why": self.why, "what_to_do": self.what_to_do,
        })
    }

    pub(super) fn text(&self) -> String {
        let entries = match self.entries {
            (Some(first), Some(last)) if first == last => format!(", entry {first}"),
            (Some(first), Some(last)) => format!(", entries {first}–{last}"),
            (Some(first), None) => format!(", entries from {first} on"),
            (None, Some(last)) => format!(", entries through {last}"),
            (None, None) => String::new(),
        };
        format!("\n  {}, byte {}{entries}: {}\n    → {}", self.file, self.position, self.why, self.what_to_do)
    }
}

/// What holds for all damage.
pub(super) fn keep_all() -> String {
    format!("\n  {KEEP}.")
}
