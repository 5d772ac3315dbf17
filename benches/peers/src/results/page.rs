//! One page with plots.

use std::fmt::Write;

use lockstep_load::plot::{Axis, Chart, Line, Scale, escape};
use lockstep_load::report::{page, percentile_chart, percentile_line, thousands};

use super::{CaseResults, OURS, Results};

/// Appends a second of Kafka 1.0.1 with a sync per append: one partition, 2 KiB (eBay, 2018, on other machines).
const EBAY_2018: [(f64, f64); 4] = [(1.0, 3_330.0), (8.0, 1_170.0), (32.0, 310.0), (128.0, 165.0)];

pub(super) fn of(results: &Results) -> String {
    let mut body = String::new();
    for chart in charts(results) {
        let _ = writeln!(body, "<div class=\"card\">{}</div>", chart.svg());
    }
    body.push_str(&tables(&super::markdown::of(results)));
    page(
        "Lockstep and its peers",
        "Three brokers each, on one machine, one system at a time; within a round they follow one another, minutes apart",
        &body,
        "Medians of all rounds; ratios are taken within a round.",
    )
}

fn charts(results: &Results) -> Vec<Chart> {
    let mut charts: Vec<Chart> = connections_chart(results).into_iter().collect();
    // Reads have none: one client waits for a message, another for a batch.
    let has_latency = |case: &&CaseResults| case.is_written && !case.is_single();
    charts.extend(results.cases.iter().filter(has_latency).map(latency_chart));
    charts
}

/// Records a second as connections are added.
fn connections_chart(results: &Results) -> Option<Chart> {
    let cases: Vec<&CaseResults> = results.cases.iter().filter(|case| case.is_single()).collect();
    let names = cases.first()?.systems.iter().map(|system| system.name.clone());
    let line = |name: String| {
        let points = cases.iter().filter_map(|case| {
            let system = case.system(&name)?;
            Some((f64::from(case.connections), system.spread(|round| Some(round.records_per_second))?.median))
        });
        Line { points: points.collect(), name, filled: false, marked: true }
    };
    let mut lines: Vec<Line> = names.map(line).collect();
    lines.push(Line {
        name: "Kafka 2018 (eBay)".into(),
        points: EBAY_2018.to_vec(),
        filled: false,
        marked: false,
    });
    Some(Chart {
        title: "Single records/s".into(),
        x: Axis::new(Scale::Log, thousands),
        y: Axis::new(Scale::Log, thousands),
        lines,
    })
}

fn latency_chart(case: &CaseResults) -> Chart {
    let lines = case.systems.iter().map(|system| percentile_line(&system.name, &system.latencies()));
    percentile_chart(&format!("{}: latency by percentile", case.name), lines.collect())
}

/// The tables of the Markdown, which are plain ones.
fn tables(markdown: &str) -> String {
    let mut html = String::new();
    let mut in_table = false;
    for line in markdown.lines() {
        let is_row = line.starts_with('|');
        if in_table && !is_row {
            html.push_str("</table></div>\n");
        }
        if is_row && !in_table {
            html.push_str("<div class=\"card\"><table>\n");
        }
        let cell = if is_row && !in_table { "th" } else { "td" };
        if is_row && !line.starts_with("|---") {
            let cells = line.trim_matches('|').split('|').map(|text| text.trim());
            let row: String = cells.map(|text| format!("<{cell}>{}</{cell}>", escape(text))).collect();
            let class = if line.starts_with(&format!("| {OURS} ")) { " class=\"ours\"" } else { "" };
            let _ = writeln!(html, "<tr{class}>{row}</tr>");
        } else if let Some(heading) = line.strip_prefix("### ") {
            let _ = writeln!(html, "<h2>{}</h2>", escape(heading));
        } else if !is_row && !line.is_empty() {
            let _ = writeln!(html, "<p>{}</p>", escape(&line.replace("**", "")));
        }
        in_table = is_row;
    }
    if in_table {
        html.push_str("</table></div>\n");
    }
    html
}
