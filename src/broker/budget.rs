//! A bound on bytes held in memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted as one: semaphores count to about 2^29 on 32-bit machines, so bytes would be too fine.
const UNIT_BYTES: usize = 1024;

/// A number of bytes that may be held at once, lent out in [`ByteLease`]s. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    units: Arc<Semaphore>,
    total_units: usize,
    whole: Option<Arc<ByteBudget>>,
}

/// Bytes that are held; given back when dropped.
#[derive(Debug)]
pub struct ByteLease {
    permit: OwnedSemaphorePermit,
    of_whole: Option<Box<ByteLease>>,
}

impl ByteBudget {
    /// A budget of `bytes`, rounded up to a whole number of KiB.
    pub fn new(bytes: u64) -> ByteBudget {
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        let total_units = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(UNIT_BYTES).clamp(1, most);
        ByteBudget { units: Arc::new(Semaphore::new(total_units)), total_units, whole: None }
    }

    /// A part of this budget that lends out at most `bytes`: what it lends counts here too.
    pub fn part(&self, bytes: u64) -> ByteBudget {
        ByteBudget { whole: Some(Arc::new(self.clone())), ..ByteBudget::new(bytes) }
    }

    /// Waits, in order of asking, until `bytes` are free. More than the whole budget counts as all of it, so
    /// that what is allowed elsewhere can always pass here, alone.
    pub async fn acquire(&self, bytes: usize) -> ByteLease {
        // Nearly always: then there is nothing to wait for, and no future to be made for it.
        if let Some(lease) = self.try_acquire(bytes) {
            return lease;
        }
        let units = self.units_for(bytes);
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        let permit = permit.expect("the semaphore is never closed");
        let of_whole = match &self.whole {
            // The part first: who waits for the part keeps nothing of the whole from others.
            Some(whole) => Some(Box::new(Box::pin(whole.acquire(bytes)).await)),
            None => None,
        };
        ByteLease { permit, of_whole }
    }

    /// The lease, if `bytes` are free now and nobody waits.
    pub fn try_acquire(&self, bytes: usize) -> Option<ByteLease> {
        let units = self.units_for(bytes);
        let permit = Arc::clone(&self.units).try_acquire_many_owned(units).ok()?;
        let of_whole = match &self.whole {
            Some(whole) => Some(Box::new(whole.try_acquire(bytes)?)),
            None => None,
        };
        Some(ByteLease { permit, of_whole })
    }

    /// Bytes that are lent out.
    pub fn held_bytes(&self) -> u64 {
        (self.total_units.saturating_sub(self.units.available_permits()) * UNIT_BYTES) as u64
    }

    /// Bytes in all.
    pub fn total_bytes(&self) -> u64 {
        (self.total_units * UNIT_BYTES) as u64
    }

    fn units_for(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES).min(self.total_units)).unwrap_or(u32::MAX)
    }
}

impl ByteLease {
    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        self.permit.num_permits() * UNIT_BYTES
    }

    /// Gives the part it was lent from its bytes back, and holds those of the whole alone.
    pub fn into_whole(self) -> ByteLease {
        self.of_whole.map_or(ByteLease { permit: self.permit, of_whole: None }, |whole| *whole)
    }

    /// Gives back all but `bytes`, rounded up to KiB.
    pub fn keep(&mut self, bytes: usize) {
        let spare = self.permit.num_permits().saturating_sub(bytes.div_ceil(UNIT_BYTES));
        drop(self.permit.split(spare));
        if let Some(of_whole) = &mut self.of_whole {
            of_whole.keep(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_lent_out_is_missing_until_it_is_dropped() {
        let budget = ByteBudget::new(10 * 1024);
        let first = budget.acquire(8 * 1024).await;
        assert_eq!((first.bytes(), budget.held_bytes()), (8192, 8192));
        assert!(budget.try_acquire(4 * 1024).is_none());
        drop(first);
        assert!(budget.try_acquire(4 * 1024).is_some());
        assert_eq!(budget.held_bytes(), 0);
    }

    #[tokio::test]
    async fn what_a_part_lends_counts_in_the_whole_and_neither_lends_more_than_it_has() {
        let whole = ByteBudget::new(10 * 1024);
        let (first, second) = (whole.part(6 * 1024), whole.part(6 * 1024));
        let mut lease = first.acquire(6 * 1024).await;
        assert!(first.try_acquire(1).is_none() && second.try_acquire(6 * 1024).is_none());
        lease = lease.into_whole();
        assert_eq!((first.held_bytes(), whole.held_bytes()), (0, 6144));
        drop(lease);
        lease = first.acquire(6 * 1024).await;
        lease.keep(2 * 1024);
        assert_eq!((first.held_bytes(), whole.held_bytes()), (2048, 2048));
        let other = second.try_acquire(6 * 1024).unwrap();
        assert_eq!(whole.held_bytes(), 8192);
        drop((lease, other));
        assert_eq!((first.held_bytes(), second.held_bytes(), whole.held_bytes()), (0, 0, 0));
    }

    #[tokio::test]
    async fn more_than_the_budget_passes_alone() {
        let budget = ByteBudget::new(2048);
        let all = budget.acquire(1 << 30).await;
        assert_eq!(all.bytes(), 2048);
        assert!(budget.try_acquire(1).is_none());
    }
}
