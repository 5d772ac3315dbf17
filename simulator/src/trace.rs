//! What happened, as one number that two equal runs share, and as a text for people.
//!
//! What holds: the hash covers every event that was noted, whether or not the text is kept; making the text changes
//! nothing that happens.

use std::fmt::Write as _;

use crate::queue::{MILLISECOND, Time};

/// One line of the timeline.
#[derive(Clone, Debug)]
struct Line {
    at: Time,
    node: Option<u64>,
    text: String,
}

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: Option<Vec<Line>>,
    nodes: u64,
}

impl Trace {
    /// A record of nothing yet; `keep` the text too?
    pub fn new(nodes: u64, keep: bool) -> Self {
        Self { hash: 0x6C6F_636B_7374_6570, lines: keep.then(Vec::new), nodes }
    }

    /// Notes that something happened on a node (or nowhere in particular). `numbers` tell it from others of its kind.
    pub fn note<const N: usize>(
        &mut self,
        at: Time,
        node: Option<u64>,
        what: &'static str,
        numbers: [u64; N],
        text: impl FnOnce() -> String,
    ) {
        self.mix(at);
        self.mix(node.unwrap_or(0));
        what.bytes().for_each(|byte| self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
        numbers.into_iter().for_each(|number| self.mix(number));
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at, node, text: format!("{what} {}", text()).trim_end().to_owned() });
        }
    }

    fn mix(&mut self, number: u64) {
        let mixed = (self.hash ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.hash = mixed ^ (mixed >> 29);
    }

    /// The number that stands for all of it.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The timeline: a column for each node, times in milliseconds. Empty if the text was not kept.
    pub fn timeline(&self) -> String {
        const WIDTH: usize = 34;
        let mut out = String::new();
        let Some(lines) = &self.lines else { return out };
        let _ = write!(out, "{:>12}  {:<WIDTH$}", "ms", "cluster");
        (1..=self.nodes).for_each(|node| {
            let _ = write!(out, "| {:<WIDTH$}", format!("node {node}"));
        });
        out.push('\n');
        for Line { at, node, text } in lines {
            let column = node.unwrap_or(0) as usize;
            let _ = write!(out, "{:>12.3}  ", *at as f64 / MILLISECOND as f64);
            for _ in 0..column {
                let _ = write!(out, "{:<WIDTH$}| ", "");
            }
            out.push_str(text);
            out.push('\n');
        }
        out
    }
}

const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_changes_nothing_and_any_number_does() {
        let hash = |keep, number| {
            let mut trace = Trace::new(3, keep);
            trace.note(5, Some(2), "crash", [number], || format!("life {number}"));
            (trace.hash(), trace.timeline().contains("crash life"))
        };
        assert_eq!(hash(true, 1).0, hash(false, 1).0);
        assert_ne!(hash(true, 1).0, hash(true, 2).0);
        assert!(hash(true, 1).1 && !hash(false, 1).1);
    }
}
