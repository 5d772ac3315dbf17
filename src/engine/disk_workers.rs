//! Threads that write and sync. Several, so that the kernel can merge their flushes; few, so that memory is bounded.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    thread,
    time::Instant,
};

use lockstep_storage::{GroupOutcome, WriteGroup};

use super::segments::Segments;
use crate::metrics::{self, GroupWritten};

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs in the order they come, as many at once as there are threads. Jobs that were taken are finished: dropping
/// the pool lets its threads run dry.
pub struct DiskWorkers {
    jobs: Pool,
    /// One thread for what may take minutes: surveys and repairs must not stand in the way of writes.
    aside: Pool,
    /// Told how much is written, if files are prepared ahead.
    segments: Option<Arc<Segments>>,
}

impl DiskWorkers {
    /// Starts `threads` threads, at least one.
    pub fn start(threads: usize, segments: Option<Arc<Segments>>) -> Self {
        Self { jobs: Pool::start("disk", threads.max(1)), aside: Pool::start("repair", 1), segments }
    }

    /// Writes a group, then hands its outcome to `report`.
    pub fn write(&self, group: WriteGroup, report: impl FnOnce(GroupOutcome) + Send + 'static) {
        let segments = self.segments.clone();
        self.run(move || {
            let started = Instant::now();
            let outcome = group.run();
            let stats = outcome.stats;
            if let Some(segments) = segments {
                segments.written_bytes.fetch_add(stats.frame_bytes, Ordering::Relaxed);
            }
            let written = GroupWritten {
                entries: stats.entries,
                frame_bytes: stats.frame_bytes + stats.header_bytes,
                record_bytes: stats.record_bytes,
                syncs: stats.syncs,
            };
            metrics::group_written(written, started.elapsed());
            if !outcome.is_ok() {
                metrics::log_failed();
            }
            report(outcome);
        });
    }

    /// Queues a job that may take minutes.
    pub fn run_aside(&self, job: impl FnOnce() + Send + 'static) {
        self.aside.run(Box::new(job));
    }

    /// Queues a job. A shard has one group in flight, one cold read for each follower, and one answer for each peer.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.run(Box::new(job));
    }
}

/// Jobs in the order they came, and the threads that wait for them.
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

/// Threads that run the jobs they are sent. Those taken are finished: dropped, it lets its threads run dry.
struct Pool {
    queue: Arc<Queue>,
}

impl Pool {
    fn start(name: &str, threads: usize) -> Self {
        let queue = Arc::new(Queue { waiting: Mutex::default(), changed: Condvar::new() });
        for number in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || {
                    while let Some(job) = queue.take() {
                        // A job that panics takes its own answer with it, and no thread.
                        drop(catch_unwind(AssertUnwindSafe(job)));
                    }
                })
                .expect("the operating system starts threads at start-up");
        }
        Self { queue }
    }

    fn run(&self, job: Job) {
        self.queue.lock().jobs.push_back(job);
        self.queue.changed.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    /// The next job, once there is one: it wakes one thread and no other. Nothing once the queue is closed and empty.
    fn take(&self) -> Option<Job> {
        let is_idle = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.is_closed;
        let waiting = self.changed.wait_while(self.lock(), is_idle);
        waiting.unwrap_or_else(PoisonError::into_inner).jobs.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
