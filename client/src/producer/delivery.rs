//! What becomes of an enqueued record: one ticket per batch, shared by its records.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, Semaphore};

use crate::error::ProduceError;

/// A stored record: synced on a majority of the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Its partition.
    pub partition: u32,
    /// Its number there.
    pub lsn: u64,
}

/// A stored batch: synced on a majority of the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchAck {
    /// Its partition.
    pub partition: u32,
    /// LSN of its first record.
    pub first_lsn: u64,
    /// LSN of its last record.
    pub last_lsn: u64,
    /// Whether an earlier attempt had stored it; the LSNs are those of then.
    pub duplicate: bool,
}

/// A batch's fate, and the room it takes until then.
#[derive(Debug)]
pub(crate) struct Ticket {
    outcome: OnceLock<Result<BatchAck, ProduceError>>,
    notify: Notify,
    budget: Arc<Semaphore>,
    permits: AtomicUsize,
}

impl Ticket {
    pub(crate) fn new(budget: Arc<Semaphore>) -> Arc<Self> {
        let permits = AtomicUsize::new(0);
        Arc::new(Self { outcome: OnceLock::new(), notify: Notify::new(), budget, permits })
    }

    /// Takes over room in the buffer until the batch is settled.
    pub(crate) fn hold(&self, permits: usize) {
        self.permits.fetch_add(permits, Ordering::Relaxed);
    }

    /// Tells all who wait, once, and gives the room back.
    pub(crate) fn settle(&self, outcome: Result<BatchAck, ProduceError>) {
        if self.outcome.set(outcome).is_ok() {
            self.budget.add_permits(self.permits.swap(0, Ordering::Relaxed));
            self.notify.notify_waiters();
        }
    }

    /// Waits for the outcome.
    pub(crate) async fn settled(&self) -> Result<BatchAck, ProduceError> {
        loop {
            // Listening begins before the look, so that a settlement in between is not missed.
            let notified = self.notify.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            notified.await;
        }
    }
}

/// What becomes the acknowledgement of an enqueued record. Await it, or drop it: the record is sent anyway.
#[derive(Debug)]
pub struct Delivery {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) index: u32,
}

impl Delivery {
    /// Waits for the acknowledgement.
    ///
    /// # Errors
    /// [`ProduceError`] if the record's batch failed.
    pub async fn ack(&self) -> Result<Ack, ProduceError> {
        let batch = self.ticket.settled().await?;
        Ok(Ack { partition: batch.partition, lsn: batch.first_lsn + u64::from(self.index) })
    }

    /// The acknowledgement, if it is there.
    #[must_use]
    pub fn try_ack(&self) -> Option<Result<Ack, ProduceError>> {
        let outcome = self.ticket.outcome.get()?.clone();
        let index = u64::from(self.index);
        Some(outcome.map(|batch| Ack { partition: batch.partition, lsn: batch.first_lsn + index }))
    }
}

impl IntoFuture for Delivery {
    type Output = Result<Ack, ProduceError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.ack().await })
    }
}

/// What becomes the acknowledgement of an enqueued batch. Await it, or drop it: the batch is sent anyway.
#[derive(Debug)]
pub struct BatchDelivery {
    pub(crate) ticket: Arc<Ticket>,
}

impl BatchDelivery {
    /// The acknowledgement, if it is there.
    #[must_use]
    pub fn try_ack(&self) -> Option<Result<BatchAck, ProduceError>> {
        self.ticket.outcome.get().cloned()
    }

    /// Waits for the acknowledgement.
    ///
    /// # Errors
    /// [`ProduceError`] if the batch failed.
    pub async fn ack(&self) -> Result<BatchAck, ProduceError> {
        self.ticket.settled().await
    }
}

impl IntoFuture for BatchDelivery {
    type Output = Result<BatchAck, ProduceError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.ack().await })
    }
}
