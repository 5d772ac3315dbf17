//! What the benches share: the local cluster of the tests, its metrics, and medians.

#![allow(dead_code, unreachable_pub, reason = "each bench uses its own part")]

#[path = "../../tests/processes/mod.rs"]
pub mod processes;

use std::collections::HashMap;

use processes::{LocalCluster, Node, http_get};

/// The value of each series without labels that a node exports.
pub fn metrics(node: &Node) -> HashMap<String, f64> {
    let (status, text) = http_get(&node.http, "/metrics").expect("the node answers");
    assert_eq!(status, 200, "{text}");
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?)))
        .collect()
}

/// How much a series grew, summed over nodes.
pub fn growth(before: &[HashMap<String, f64>], after: &[HashMap<String, f64>], series: &str) -> f64 {
    let sum = |nodes: &[HashMap<String, f64>]| -> f64 {
        nodes.iter().map(|node| node.get(series).unwrap_or_else(|| panic!("{series} is not exported"))).sum()
    };
    sum(after) - sum(before)
}

/// The metrics of every node.
pub fn all_metrics(cluster: &LocalCluster) -> Vec<HashMap<String, f64>> {
    cluster.nodes().iter().map(metrics).collect()
}

/// Smallest, median and greatest of some figures.
pub fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[0], figures[figures.len() / 2], figures[figures.len() - 1])
}
