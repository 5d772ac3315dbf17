//! The line that moves while a load runs, on standard error, if a terminal watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lockstep_load::report::{bytes, thousands, time};
use lockstep_load::run::{Found, Progress};

/// A line that moves.
pub(super) struct Live(ProgressBar);

impl Live {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(match ProgressStyle::with_template("{spinner} {msg}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }

    pub(super) fn show(&self, progress: &Progress<'_>) {
        self.0.set_message(match progress {
            Progress::Filling { bytes: done, of } => {
                format!("filling the topic: {} of {}", bytes(*done as f64), bytes(*of as f64))
            }
            Progress::WarmingUp => "warming up".to_owned(),
            Progress::Measuring { elapsed, of, found } => {
                format!("{:.0} of {:.0} s{}", elapsed.as_secs_f64(), of.as_secs_f64(), now(found))
            }
            Progress::Finishing => "waiting for what is in flight".to_owned(),
            Progress::Checking { records } => {
                format!("checking what the replicas hold: {} records", thousands(*records as f64))
            }
        });
    }

    pub(super) fn clear(self) {
        self.0.finish_and_clear();
    }
}

/// The newest slot of each series.
fn now(found: &Found) -> String {
    let series = [("", &found.acknowledged), ("delivered ", &found.delivered), ("read ", &found.read)];
    let mut text = String::new();
    for (name, figures) in series {
        let Some(slot) = figures.as_ref().and_then(|figures| figures.slots.last()) else { continue };
        text += &format!(
            "  {name}{} records/s  {}/s  p50 {}  p99 {}",
            thousands(slot.records_per_second()),
            bytes(slot.bytes_per_second()),
            time(slot.p50),
            time(slot.p99),
        );
    }
    text
}
