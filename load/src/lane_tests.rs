//! Both loops against a server whose every answer takes a millisecond, and which once stalls. Time is virtual.

use tokio::time::{Instant, sleep, sleep_until};

use super::*;
use crate::error::LoadError;
use crate::series::{Figures, Latencies};

const STALL_BEGINS: Duration = Duration::from_millis(4_000);
const STALL_ENDS: Duration = Duration::from_millis(5_000);
const RUN: Duration = Duration::from_secs(10);

/// Answers after a millisecond, but for a second after nothing at all.
struct Stalling {
    origin: Instant,
    stalls: bool,
}

impl Append for Stalling {
    type Pending = Instant;

    async fn append(&self, _: u64, _: Duration) -> Result<Instant, LoadError> {
        let now = self.origin.elapsed();
        let stalled = self.stalls && now >= STALL_BEGINS && now < STALL_ENDS;
        let taken = if stalled { STALL_ENDS } else { now };
        Ok(self.origin + taken + Duration::from_millis(1))
    }

    async fn acknowledged(answer: Instant) -> Result<u64, LoadError> {
        sleep_until(answer).await;
        Ok(1)
    }

    fn records(&self) -> u64 {
        1
    }

    fn bytes(&self) -> u64 {
        100
    }
}

async fn latencies(pace: Loop, stalls: bool) -> Latencies {
    let origin = Instant::now();
    let clock = Arc::new(Clock::new(origin, Duration::ZERO, RUN));
    let series = Arc::new(Series::new(Arc::clone(&clock)));
    let append = Stalling { origin, stalls };
    let lane = Lane { number: 0, append, clock, series: Arc::clone(&series), keeps: 10 };
    let sent = lane.run(pace).await.unwrap();
    let mut figures = Figures::default();
    series.drain_into(&mut figures);
    assert_eq!(figures.latencies.count(), sent.records, "nothing is lost on the way to the figures");
    figures.latencies
}

fn open() -> Loop {
    Loop::Open(Schedule::new(1_000.0, 0, 1), Alarm::Tokio)
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_counts_a_stall_for_every_send_it_delays() {
    let latencies = latencies(open(), true).await;
    assert_eq!(latencies.count(), 10_000, "a stall takes no send away");
    // A tenth of the sends were due in the stall, and waited for between 0 and 1,000 ms.
    assert!(latencies.percentile(89.0).as_millis() <= 3, "{:?}", latencies.percentile(89.0));
    let waited = |percent, low, high| {
        let found = latencies.percentile(percent).as_millis();
        assert!((low..=high).contains(&found), "p{percent}: {found} ms");
    };
    waited(95.0, 490, 510);
    waited(99.0, 890, 910);
    waited(99.9, 980, 1_002);
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_would_hide_the_same_stall() {
    let latencies = latencies(Loop::Closed(1), true).await;
    // It sent nothing while the server stood still: one latency in thousands is long.
    assert!(latencies.percentile(99.9).as_millis() <= 3, "{:?}", latencies.percentile(99.9));
    assert!(latencies.max().as_millis() >= 990, "{:?}", latencies.max());
}

#[tokio::test(start_paused = true)]
async fn without_a_stall_an_open_loop_has_no_long_latency() {
    let latencies = latencies(open(), false).await;
    assert!(latencies.max().as_millis() <= 3, "{:?}", latencies.max());
}

/// Takes so long for each send, and fails its acknowledgement or not.
struct Taking {
    time: Duration,
    fails: bool,
}

impl Append for Taking {
    type Pending = bool;

    async fn append(&self, _: u64, _: Duration) -> Result<bool, LoadError> {
        sleep(self.time).await;
        Ok(self.fails)
    }

    async fn acknowledged(fails: bool) -> Result<u64, LoadError> {
        if fails { Err(LoadError::Violation("planted".into())) } else { Ok(1) }
    }

    fn records(&self) -> u64 {
        1
    }

    fn bytes(&self) -> u64 {
        1
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_send_ends_the_lane_at_once() {
    for pace in [open(), Loop::Closed(4)] {
        let started = Instant::now();
        let clock = Arc::new(Clock::new(started, Duration::ZERO, RUN));
        let series = Arc::new(Series::new(Arc::clone(&clock)));
        let append = Taking { time: Duration::from_millis(1), fails: true };
        let lane = Lane { number: 0, append, clock, series, keeps: 0 };
        assert!(matches!(lane.run(pace).await, Err(LoadError::Violation(_))));
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_due_and_never_sent_counts_with_the_time_it_had_waited() {
    let clock = Arc::new(Clock::new(Instant::now(), Duration::from_secs(5), RUN));
    let series = Arc::new(Series::new(Arc::clone(&clock)));
    // A tenth of what it is asked for.
    let append = Taking { time: Duration::from_millis(10), fails: false };
    let lane = Lane { number: 0, append, clock, series: Arc::clone(&series), keeps: 0 };
    let sent = lane.run(open()).await.unwrap().sends;
    let mut figures = Figures::default();
    series.drain_into(&mut figures);
    // All that was sent had been due in the warm-up: without the rest there would be no latency at all.
    assert!(sent < 1_600, "{sent}");
    assert_eq!(figures.latencies.count(), 10_000);
    assert!(figures.latencies.percentile(50.0).as_millis() >= 4_990);
}
