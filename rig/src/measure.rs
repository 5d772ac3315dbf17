//! What was measured, and the tables it is printed in.

use std::fmt::Write;
use std::time::Duration;

/// Times of one kind.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest time that `percent` of all do not exceed; `None` without any.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }

    /// Median, 99th percentile and maximum, in words.
    #[must_use]
    pub fn summary(&self) -> String {
        let shown = |percent| self.percentile(percent).map_or("-".to_owned(), milliseconds);
        format!("p50 {}, p99 {}, max {} ({} times)", shown(50), shown(99), shown(100), self.len())
    }
}

/// A time as milliseconds.
#[must_use]
pub fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

/// Lines of a name and what is to be said of it.
#[derive(Debug, Clone, Default)]
pub struct Table(Vec<(String, String)>);

impl Table {
    /// Adds a line.
    pub fn row(&mut self, name: impl Into<String>, value: impl ToString) {
        self.0.push((name.into(), value.to_string()));
    }

    /// The lines, with the values below each other.
    #[must_use]
    pub fn show(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in &self.0 {
            let _ = writeln!(text, "  {name:<width$}  {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(milliseconds: impl IntoIterator<Item = u64>) -> Times {
        Times(milliseconds.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn percentiles_are_times_that_occurred() {
        let hundred = times((1..=100).rev());
        let at = |percent| hundred.percentile(percent).unwrap().as_millis();
        assert_eq!((at(0), at(50), at(99), at(100)), (1, 50, 99, 100));
        assert_eq!(times([7]).percentile(50), Some(Duration::from_millis(7)));
        assert_eq!(times([7, 9]).percentile(99), Some(Duration::from_millis(9)));
        assert_eq!(Times::default().percentile(50), None);
    }

    #[test]
    fn a_table_aligns_its_values() {
        let mut table = Table::default();
        table.row("cuts", 500);
        table.row("lost records", 0);
        assert_eq!(table.show(), "  cuts          500\n  lost records  0\n");
    }
}
