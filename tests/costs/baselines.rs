//! Costs as they were, in a file that is read in a review: by way, then by what was counted.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value};

/// A cost.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Of which way.
    pub path: String,
    /// What was counted, per what.
    pub what: &'static str,
    /// How much.
    pub value: f64,
}

/// What costs were.
#[derive(Debug, PartialEq)]
pub struct Baselines(BTreeMap<String, BTreeMap<String, f64>>);

impl Baselines {
    /// These.
    pub fn of(figures: &[Figure]) -> Baselines {
        let mut costs: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
        for Figure { path, what, value } in figures {
            costs.entry(path.clone()).or_default().insert((*what).to_owned(), round(*value));
        }
        Baselines(costs)
    }

    /// Those in a file.
    pub fn read(file: &str) -> Baselines {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let costs: BTreeMap<String, Map<String, Value>> =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let numbers = |costs: Map<String, Value>| {
            costs.into_iter().filter_map(|(what, value)| Some((what, value.as_f64()?))).collect()
        };
        Baselines(costs.into_iter().map(|(path, costs)| (path, numbers(costs))).collect())
    }

    /// Replaces the file.
    pub fn write(&self, file: &str) {
        let text = serde_json::to_string_pretty(&self.0).expect("names and numbers");
        fs::write(file, text + "\n").unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// What is not as it was, but for a share of `margin`, a line each. Better is a change too: it is to be kept.
    pub fn changes(&self, now: &[Figure], margin: f64) -> Vec<String> {
        let now = Baselines::of(now);
        let mut lines = Vec::new();
        for (path, costs) in &self.0 {
            for (what, before) in costs {
                match now.0.get(path).and_then(|costs| costs.get(what)) {
                    Some(value) if (value - before).abs() <= margin * before.abs() => {}
                    Some(value) => lines.push(format!("{path}: {what}: {value}, was {before}")),
                    None => lines.push(format!("{path}: {what}: not counted any more, was {before}")),
                }
            }
        }
        for (path, costs) in &now.0 {
            let new =
                costs.iter().filter(|(what, _)| !self.0.get(path).is_some_and(|old| old.contains_key(*what)));
            lines.extend(new.map(|(what, value)| format!("{path}: {what}: {value}, was not counted")));
        }
        lines
    }
}

/// Three digits behind the point say enough.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
