//! When each send is due, and waiting for exactly that moment.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::error::LoadError;

/// The time of a run, which begins at zero, and the part of it that is measured.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    from: Duration,
    to_ns: AtomicU64,
}

impl Clock {
    /// A run that begins at `origin`: first the warm-up, then what is measured.
    #[must_use]
    pub fn new(origin: Instant, warm_up: Duration, duration: Duration) -> Self {
        let to_ns = AtomicU64::new(nanoseconds(warm_up.saturating_add(duration)));
        Self { origin, from: warm_up, to_ns }
    }

    /// Time since the beginning; zero before it.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The moment of a time of the run.
    #[must_use]
    pub fn instant(&self, time: Duration) -> Instant {
        self.origin + time
    }

    /// Waits until the run begins.
    pub(crate) async fn begun(&self) {
        tokio::time::sleep_until(self.origin).await;
    }

    /// When measuring begins.
    #[must_use]
    pub fn measured_from(&self) -> Duration {
        self.from
    }

    /// When measuring ends.
    #[must_use]
    pub fn measured_to(&self) -> Duration {
        Duration::from_nanos(self.to_ns.load(Ordering::Relaxed))
    }

    /// Whether a moment is measured.
    #[must_use]
    pub fn measures(&self, time: Duration) -> bool {
        self.from <= time && time < self.measured_to()
    }

    /// Ends the run now, if it has not ended.
    pub fn stop(&self) {
        self.to_ns.fetch_min(nanoseconds(self.now()), Ordering::Relaxed);
    }
}

/// A duration in whole nanoseconds, good for 584 years.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// When the sends of one lane are due. The lanes of a run take turns, so that together they are evenly spaced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    first: f64,
    interval: f64,
}

impl Schedule {
    /// The schedule of lane `lane` of `lanes`, which together make `sends_per_second`.
    #[must_use]
    pub fn new(sends_per_second: f64, lane: u32, lanes: u32) -> Self {
        let spacing = 1.0 / sends_per_second;
        Self { first: spacing * f64::from(lane), interval: spacing * f64::from(lanes) }
    }

    /// When a send is due, counted from 0, since the beginning of the run. It does not depend on how the ones
    /// before it went: that is what makes the loop open.
    #[must_use]
    pub fn due(&self, send: u64) -> Duration {
        let seconds = self.first + self.interval * send as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// Wakes a task at a moment.
#[derive(Debug)]
pub enum Alarm {
    /// By a timer of the kernel's, to some ten microseconds. Tokio's own wakes at whole milliseconds.
    Precise(AsyncFd<OwnedFd>),
    /// By tokio's clock, which tests can turn.
    Tokio,
}

impl Alarm {
    /// One of the kernel's timers.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn precise() -> Result<Self, LoadError> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, flags).map_err(LoadError::system("making a timer"))?;
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd, which keeps its descriptor open; no safe successor"
        )]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)
            .map_err(LoadError::system("watching a timer"))?;
        Ok(Self::Precise(timer))
    }

    /// Waits until the moment; not at all if it is past.
    ///
    /// # Errors
    /// The timer cannot be set.
    pub async fn until(&mut self, moment: Instant) -> Result<(), LoadError> {
        let wait = moment.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        match self {
            Self::Tokio => tokio::time::sleep_until(moment).await,
            Self::Precise(timer) => {
                let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(wait) };
                timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once)
                    .map_err(LoadError::system("setting a timer"))?;
                let mut ready = timer.readable().await.map_err(LoadError::system("waiting for a timer"))?;
                // Setting it anew clears what it counted: no read is needed.
                ready.clear_ready();
            }
        }
        Ok(())
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lanes_of_a_run_are_evenly_spaced_together() {
        let lanes: Vec<_> = (0..4).map(|lane| Schedule::new(1_000.0, lane, 4)).collect();
        let mut dues: Vec<u128> =
            lanes.iter().flat_map(|lane| (0..3).map(|send| lane.due(send).as_micros())).collect();
        dues.sort_unstable();
        assert_eq!(dues, (0..12).map(|send| send * 1_000).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_precise_alarm_wakes_no_earlier_than_it_was_set_to_again_and_again() {
        let mut alarm = Alarm::precise().unwrap();
        let start = Instant::now();
        for step in 1..=20 {
            let moment = start + Duration::from_micros(300) * step;
            alarm.until(moment).await.unwrap();
            assert!(Instant::now() >= moment, "step {step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_lies_outside_of_the_measured_time_is_not_measured() {
        let second = Duration::from_secs(1);
        let clock = Clock::new(Instant::now(), second, 2 * second);
        let measured: Vec<bool> = (0..4).map(|at| clock.measures(second * at)).collect();
        assert_eq!(measured, [false, true, true, false]);
        tokio::time::sleep(2 * second).await;
        clock.stop();
        assert_eq!(clock.measured_to(), 2 * second);
        tokio::time::sleep(second).await;
        clock.stop();
        assert_eq!(clock.measured_to(), 2 * second, "an end is not put off");
    }
}
