//! Futures that are begun in order and awaited together.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Several futures, polled in their order until all are done.
pub(super) struct Together<T> {
    running: Vec<Slot<T>>,
}

enum Slot<T> {
    Running(Pin<Box<dyn Future<Output = T> + Send>>),
    Done(T),
}

impl<T: Send + Unpin + 'static> Together<T> {
    /// Nothing runs before the first poll.
    pub(super) fn new(
        futures: impl IntoIterator<Item = Pin<Box<dyn Future<Output = T> + Send>>>,
    ) -> Together<T> {
        Together { running: futures.into_iter().map(Slot::Running).collect() }
    }

    /// Polls each future once, in order: whatever they do before their first wait is done when this returns.
    /// The results, if all are done already.
    pub(super) async fn begin(&mut self) -> Option<Vec<T>> {
        poll_fn(|context| Poll::Ready(self.poll_all(context))).await
    }

    /// The results, in order.
    pub(super) async fn finish(mut self) -> Vec<T> {
        poll_fn(|context| match self.poll_all(context) {
            Some(results) => Poll::Ready(results),
            None => Poll::Pending,
        })
        .await
    }

    fn poll_all(&mut self, context: &mut Context<'_>) -> Option<Vec<T>> {
        let mut all_done = true;
        for slot in &mut self.running {
            if let Slot::Running(future) = slot {
                match future.as_mut().poll(context) {
                    Poll::Ready(result) => *slot = Slot::Done(result),
                    Poll::Pending => all_done = false,
                }
            }
        }
        let take = |slot| match slot {
            Slot::Done(result) => Some(result),
            Slot::Running(_) => None,
        };
        all_done.then(|| std::mem::take(&mut self.running).into_iter().filter_map(take).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn each_is_begun_in_order_before_any_is_awaited() {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let futures = (0..3).map(|number| {
            let begun = Arc::clone(&begun);
            let future = async move {
                begun.lock().unwrap().push(number);
                tokio::task::yield_now().await;
                number
            };
            Box::pin(future) as Pin<Box<dyn Future<Output = i32> + Send>>
        });
        let mut together = Together::new(futures);
        assert!(together.begin().await.is_none());
        assert_eq!(*begun.lock().unwrap(), [0, 1, 2]);
        assert_eq!(together.finish().await, [0, 1, 2]);
    }

    #[tokio::test]
    async fn what_never_waits_is_done_at_once() {
        let ready = Box::pin(async { 7 }) as Pin<Box<dyn Future<Output = i32> + Send>>;
        assert_eq!(Together::new([ready]).begin().await, Some(vec![7]));
    }
}
