//! Waiting for the first of several changes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::sync::watch;

/// Returns when one of the watched values has changed, or its sender is gone. Never, if there are none.
pub(super) async fn any_changed<T>(watches: &mut [watch::Receiver<T>]) {
    let mut changes: Vec<_> = watches.iter_mut().map(|watch| Box::pin(watch.changed())).collect();
    poll_fn(|context| {
        let ready = changes.iter_mut().any(|change| Pin::new(change).poll(context).is_ready());
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
