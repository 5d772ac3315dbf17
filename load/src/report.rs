//! A run as one HTML page that needs nothing else.

use std::fmt::Write;
use std::time::Duration;

use crate::outcome::{Outcome, PERCENTILES, percentile_name};
use crate::plan::{Batching, Plan};
use crate::plot::{Axis, Chart, Line, STYLE, Scale, escape};
use crate::series::{Figures, Slot};

/// How a page looks, light and dark.
const PAGE_STYLE: &str = "\
:root{--ink:#16202b;--soft:#5d6b7a;--line:#e4e8ed;--page:#f5f6f8;--card:#fff;\
--c0:#0b7a75;--c1:#d9622b;--c2:#8a93a0;--c3:#5b5bd6;--c4:#b83280;--c5:#8f7a12}
@media(prefers-color-scheme:dark){:root{--ink:#eaf0f6;--soft:#97a5b4;--line:#2a3440;--page:#10161d;--card:#18212b;\
--c0:#3fbfb5;--c1:#f08a52;--c2:#6f7c8a;--c3:#9a9af5;--c4:#ea79b4;--c5:#d6be4a}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:880px;margin:0 auto;padding:40px 20px 64px}h1{font-size:26px;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;margin:36px 0 12px}p.lead{color:var(--soft);margin:0 0 24px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(122px,1fr));gap:12px;margin-bottom:16px}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px}.tile{padding:12px 14px;white-space:nowrap}
.tile b{display:block;font-size:20px;font-weight:650;font-variant-numeric:tabular-nums;letter-spacing:-.01em}
.tile span{color:var(--soft);font-size:13px}.card{padding:18px 20px;margin-bottom:16px;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{text-align:left;color:var(--soft);font-weight:500;font-size:13px}td,th{padding:6px 12px 6px 0}
tr+tr td{border-top:1px solid var(--line)}footer{color:var(--soft);font-size:13px;margin-top:32px}";

/// A page of that look.
#[must_use]
pub fn page(title: &str, lead: &str, body: &str, footer: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{PAGE_STYLE}\n{STYLE}\n</style></head>\n\
         <body><main>\n<h1>{title}</h1>\n<p class=\"lead\">{lead}</p>\n{body}\
         <footer>{footer}</footer>\n</main></body></html>\n",
        title = escape(title),
        lead = escape(lead),
        footer = escape(footer),
    )
}

/// The page of a run.
#[must_use]
pub fn html(outcome: &Outcome) -> String {
    let mut body = String::new();
    for (name, figures) in outcome.series() {
        let _ = writeln!(body, "<h2>{}</h2>", escape(heading(name)));
        body.push_str(&tiles(figures));
        for chart in [latency_over_time(figures), throughput_over_time(figures), percentiles(figures)] {
            let _ = writeln!(body, "<div class=\"card\">{}</div>", chart.svg());
        }
    }
    let settings = table(&settings(&outcome.plan, outcome));
    let _ = writeln!(body, "<h2>Settings</h2>\n<div class=\"card\">{settings}</div>");
    let title = format!("lockstep bench {}", outcome.plan.load.name());
    page(&title, &lead(outcome), &body, how_it_counts(&outcome.plan))
}

fn heading(series: &str) -> &'static str {
    match series {
        "acknowledged" => "Acknowledged: from the send until a majority has synced it",
        "delivered" => "Delivered: from the send until a subscriber has it",
        _ => "Read: from asking until a batch is there",
    }
}

fn how_it_counts(plan: &Plan) -> &'static str {
    if plan.rate.is_some() {
        "Open loop: a latency counts from when the record was to be sent, so that a stall counts for every record it \
         delays. Records acknowledged and committed were compared: they agree."
    } else {
        "Closed loop: a latency counts from the send, and no send is made while too many are unanswered. Records \
         acknowledged and committed were compared: they agree."
    }
}

fn lead(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let rate = match plan.rate {
        Some(rate) => format!("{} records a second asked for", thousands(rate)),
        None => "as many records as are taken".to_owned(),
    };
    let caught_up = match outcome.caught_up {
        Some(at) => format!(", caught up after {}", time(at)),
        None => String::new(),
    };
    format!(
        "{} records, {rate}, {} partition{}, {} connection{}, {} measured{caught_up}",
        bytes(plan.record_bytes as f64),
        outcome.partitions,
        if outcome.partitions == 1 { "" } else { "s" },
        plan.connections,
        if plan.connections == 1 { "" } else { "s" },
        time(outcome.series().first().map_or(Duration::ZERO, |(_, figures)| figures.time)),
    )
}

fn tiles(figures: &Figures) -> String {
    let latency = |percent| time(figures.latencies.percentile(percent));
    let tiles = [
        (thousands(figures.records_per_second()), "records a second".to_owned()),
        (format!("{}/s", bytes(figures.bytes_per_second())), "of values".to_owned()),
        (latency(50.0), "p50".to_owned()),
        (latency(99.0), "p99".to_owned()),
        (latency(99.9), "p99.9".to_owned()),
        (time(figures.latencies.max()), "max".to_owned()),
    ];
    let tiles: String = tiles
        .iter()
        .map(|(value, name)| {
            format!("<div class=\"tile\"><b>{}</b><span>{}</span></div>\n", escape(value), escape(name))
        })
        .collect();
    format!("<div class=\"tiles\">\n{tiles}</div>\n")
}

fn seconds(value: f64) -> String {
    format!("{value} s")
}

fn latency_label(milliseconds: f64) -> String {
    time(Duration::from_secs_f64(milliseconds / 1e3))
}

fn over_time(figures: &Figures, value: impl Fn(&Slot) -> f64) -> Vec<(f64, f64)> {
    figures.slots.iter().map(|slot| (slot.to.as_secs_f64(), value(slot))).collect()
}

fn latency_over_time(figures: &Figures) -> Chart {
    let line = |name: &str, value: fn(&Slot) -> Duration| Line {
        name: name.to_owned(),
        // A piece without a record has no latency.
        points: over_time(figures, |slot| value(slot).as_secs_f64() * 1e3)
            .into_iter()
            .filter(|point| point.1 > 0.0)
            .collect(),
        filled: false,
        marked: false,
    };
    Chart {
        title: "Latency over time".into(),
        x: Axis::new(Scale::Linear, seconds),
        y: Axis::new(Scale::Log, latency_label),
        lines: vec![line("p50", |slot| slot.p50), line("p99", |slot| slot.p99), line("max", |slot| slot.max)],
    }
}

fn throughput_over_time(figures: &Figures) -> Chart {
    let points = over_time(figures, Slot::records_per_second);
    Chart {
        title: "Records a second over time".into(),
        x: Axis::new(Scale::Linear, seconds),
        y: Axis::new(Scale::Linear, thousands),
        lines: vec![Line { name: "records a second".into(), points, filled: true, marked: false }],
    }
}

/// Latency by percentile, stretched towards the end, where what matters is.
fn percentiles(figures: &Figures) -> Chart {
    let line = percentile_line("latency", &figures.latencies);
    percentile_chart("Latency by percentile", vec![line])
}

/// The line of some latencies in a [`percentile_chart`].
#[must_use]
pub fn percentile_line(name: &str, latencies: &crate::series::Latencies) -> Line {
    let nines = (latencies.count().max(1) as f64).log10().min(5.0);
    let steps = (nines * 20.0) as u32;
    let points = (0..=steps).map(|step| {
        let place = f64::from(step) / 20.0;
        let percent = 100.0 * (1.0 - 10_f64.powf(-place));
        (place, latencies.percentile(percent).as_secs_f64() * 1e3)
    });
    Line {
        name: name.to_owned(),
        points: points.filter(|point| point.1 > 0.0).collect(),
        filled: false,
        marked: false,
    }
}

/// A chart of [`percentile_line`]s.
#[must_use]
pub fn percentile_chart(title: &str, lines: Vec<Line>) -> Chart {
    let ticks = [
        (0.0, "0 %"),
        (0.301, "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
        (5.0, "99.999 %"),
    ];
    let ticks = ticks.iter().map(|(place, label)| (*place, (*label).to_owned())).collect();
    Chart {
        title: title.to_owned(),
        x: Axis { scale: Scale::Linear, label: seconds, ticks: Some(ticks) },
        y: Axis::new(Scale::Log, latency_label),
        lines,
    }
}

fn settings(plan: &Plan, outcome: &Outcome) -> Vec<(String, String)> {
    let batching = match plan.batching {
        Batching::Client { batch_bytes, linger } => {
            format!("by the client, up to {}, waiting {} for more", bytes(batch_bytes as f64), time(linger))
        }
        Batching::Records(1) => "each record by itself".to_owned(),
        Batching::Records(count) => format!("{count} records, whole or not at all"),
    };
    let pace = match (plan.rate, outcome.rate_reached()) {
        (Some(rate), Some(reached)) => {
            format!("open loop, {} records a second; {:.1} % reached", thousands(rate), reached * 100.0)
        }
        _ => format!("closed loop, up to {} sends unanswered per connection and partition", plan.in_flight),
    };
    let mut rows = vec![
        ("Topic".to_owned(), format!("{}, {} partitions", outcome.topic, outcome.partitions)),
        ("Records".to_owned(), bytes(plan.record_bytes as f64)),
    ];
    if plan.load.writes() {
        rows.push(("Batches".to_owned(), batching));
        rows.push(("Pace".to_owned(), pace));
        rows.push(("Connections".to_owned(), plan.connections.to_string()));
    }
    if plan.load.subscribes() {
        rows.push(("Subscribers".to_owned(), plan.subscribers.to_string()));
    }
    if plan.load.reads() {
        rows.push(("Readers".to_owned(), plan.readers.to_string()));
        rows.push(("Written before".to_owned(), bytes(plan.fill_bytes as f64)));
    }
    rows.push(("Warm-up".to_owned(), time(plan.warm_up)));
    for (name, figures) in outcome.series() {
        let all = PERCENTILES.map(|percent| {
            format!("{} {}", percentile_name(percent), time(figures.latencies.percentile(percent)))
        });
        rows.push((format!("Latency, {name}"), all.join(" · ")));
    }
    rows
}

/// Names and values, one a row.
fn table(rows: &[(String, String)]) -> String {
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value)))
        .collect();
    format!("<table>\n{rows}</table>")
}

/// A time in the unit that suits it, with three digits.
#[must_use]
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        0.0 => "0".to_owned(),
        _ if seconds < 1e-3 => format!("{} µs", digits(seconds * 1e6)),
        _ if seconds < 1.0 => format!("{} ms", digits(seconds * 1e3)),
        _ => format!("{} s", digits(seconds)),
    }
}

/// Bytes in the unit that suits them, with three digits. Powers of ten.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    match bytes {
        _ if bytes < 1e3 => format!("{bytes:.0} B"),
        _ if bytes < 1e6 => format!("{} kB", digits(bytes / 1e3)),
        _ if bytes < 1e9 => format!("{} MB", digits(bytes / 1e6)),
        _ => format!("{} GB", digits(bytes / 1e9)),
    }
}

/// Three digits, and no more noughts than a person writes.
fn digits(value: f64) -> String {
    let text = match value {
        _ if value >= 99.95 => format!("{value:.0}"),
        _ if value >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A count with its thousands apart.
#[must_use]
pub fn thousands(count: f64) -> String {
    if count > 0.0 && count < 100.0 {
        return digits(count);
    }
    let text = format!("{count:.0}");
    let mut grouped = String::new();
    for (place, digit) in text.chars().enumerate() {
        if place > 0 && (text.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_a_person_would() {
        let times = [0, 17, 1_234, 45_600, 2_000_000].map(|us| time(Duration::from_micros(us)));
        assert_eq!(times, ["0", "17 µs", "1.23 ms", "45.6 ms", "2 s"]);
        assert_eq!([512.0, 1_024.0, 1.5e6, 2.5e9].map(bytes), ["512 B", "1.02 kB", "1.5 MB", "2.5 GB"]);
        assert_eq!(
            [0.0, 3.5, 999.0, 1_000.0, 1_234_567.0].map(thousands),
            ["0", "3.5", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        let page = page("a", "b", "", "c");
        assert!(!page.contains("http") && !page.contains("<script") && !page.contains("url("));
    }
}
