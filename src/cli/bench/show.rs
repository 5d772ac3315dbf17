//! What came of a load, as text.

use lockstep_load::Outcome;
use lockstep_load::audit::Checked;
use lockstep_load::outcome::{PERCENTILES, percentile_name};
use lockstep_load::report::{bytes, thousands, time};

use crate::cli::output::table;

/// A table with a row for each kind of operation, and what else there is to say.
pub(super) fn text(outcome: &Outcome) -> String {
    let mut heading = vec![String::new(), "RECORDS/S".to_owned(), "BYTES/S".to_owned()];
    heading.extend(PERCENTILES.map(|percent| percentile_name(percent).to_uppercase()));
    let rows: Vec<Vec<String>> = outcome
        .series()
        .into_iter()
        .map(|(name, figures)| {
            let mut row = vec![
                name.to_owned(),
                thousands(figures.records_per_second()),
                bytes(figures.bytes_per_second()),
            ];
            row.extend(PERCENTILES.map(|percent| match figures.latencies.count() {
                0 => "-".to_owned(),
                _ => time(figures.latencies.percentile(percent)),
            }));
            row
        })
        .collect();
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    let mut text = table(&heading, &rows);
    for remark in remarks(outcome) {
        text.push('\n');
        text.push_str(&remark);
    }
    text
}

/// Below this share of the rate asked for the latencies are those of a queue.
const RATE_REACHED: f64 = 0.99;

fn remarks(outcome: &Outcome) -> Vec<String> {
    let mut remarks = Vec::new();
    if let (Some(asked), Some(reached)) = (outcome.plan.rate, outcome.rate_reached()) {
        let share = reached * 100.0;
        remarks.push(if reached < RATE_REACHED {
            format!(
                "only {share:.1} % of {} records/s were reached: the latencies are those of a growing queue",
                thousands(asked)
            )
        } else {
            format!("open loop at {} records/s: latency counts from when a record was due", thousands(asked))
        });
    } else if outcome.found.acknowledged.is_some() {
        let in_flight = outcome.plan.in_flight;
        remarks.push(format!("closed loop: up to {in_flight} sends unanswered per connection and partition"));
    }
    match outcome.caught_up {
        Some(at) => remarks.push(format!("all readers had caught up after {}", time(at))),
        None if outcome.plan.load == lockstep_load::Load::CatchUp => {
            remarks.push("the readers had not caught up when the time was over".to_owned());
        }
        None => {}
    }
    let Checked { acknowledged_records, replicas, replicas_unread, .. } = outcome.checked;
    if replicas > 0 {
        let acknowledged = thousands(acknowledged_records as f64);
        remarks.push(format!(
            "checked: {acknowledged} acknowledged records, each in its place on {replicas} replicas"
        ));
    }
    if replicas_unread > 0 {
        remarks.push(format!("{replicas_unread} replicas could not be read, and were not checked"));
    }
    if outcome.stopped_early {
        remarks.push("stopped before its time".to_owned());
    }
    remarks
}
