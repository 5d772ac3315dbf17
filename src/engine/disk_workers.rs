//! Threads that write and sync. Several, so that the kernel can merge their flushes; few, so that memory is bounded.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering, mpsc},
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
    jobs: mpsc::Sender<Job>,
    /// One thread for what may take minutes: surveys and repairs must not stand in the way of writes.
    aside: mpsc::Sender<Job>,
    /// Told how much is written, if files are prepared ahead.
    segments: Option<Arc<Segments>>,
}

impl DiskWorkers {
    /// Starts `threads` threads, at least one.
    pub fn start(threads: usize, segments: Option<Arc<Segments>>) -> Self {
        Self { jobs: pool("disk", threads.max(1)), aside: pool("repair", 1), segments }
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
        let _ = self.aside.send(Box::new(job));
    }

    /// Queues a job. A shard has one group in flight, one cold read for each follower, and one answer for each peer.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let _ = self.jobs.send(Box::new(job));
    }
}

/// Threads that run the jobs they are sent, in order, until nobody can send any more.
fn pool(name: &str, threads: usize) -> mpsc::Sender<Job> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let queue = Arc::new(Mutex::new(queue));
    for number in 0..threads {
        let queue = Arc::clone(&queue);
        thread::Builder::new()
            .name(format!("{name}-{number}"))
            .spawn(move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match job {
                        // A job that panics takes its own answer with it, and no thread.
                        Ok(job) => drop(catch_unwind(AssertUnwindSafe(job))),
                        Err(mpsc::RecvError) => return,
                    }
                }
            })
            .expect("the operating system starts threads at start-up");
    }
    jobs
}
