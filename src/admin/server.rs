//! Sockets and limits around the handlers.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::control::Control;
use super::handlers::Handlers;

/// Connections served at once; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 256;
/// A request's head must be there within this time; idle connections are closed after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest request head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How often recorded samples move into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How long to wait before accepting again after accepting failed, as it does when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin interface on `listener` until `stop` resolves. Requests that are being answered then are finished.
pub async fn serve<C: Control>(
    listener: TcpListener,
    control: Arc<C>,
    stop: impl Future<Output = ()> + Send,
) {
    crate::metrics::start();
    let handlers = Arc::new(Handlers::new(control));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stopping, stopped) = watch::channel(());
    let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = upkeep.tick() => crate::metrics::run_upkeep(),
            accepted = accept(&listener, &slots) => {
                let Some((socket, slot)) = accepted else { continue };
                let (handlers, stopped) = (Arc::clone(&handlers), stopped.clone());
                let _ = socket.set_nodelay(true);
                tokio::spawn(async move {
                    serve_connection(socket, handlers, stopped).await;
                    drop(slot);
                });
            }
        }
    }
    drop(stopped);
    let _ = stopping.send(());
    stopping.closed().await;
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, _)) => Some((socket, slot)),
        Err(error) => {
            tracing::warn!(%error, "accepting an admin connection failed; trying again");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Serves one connection that is there already, to its end.
pub async fn serve_stream<C: Control>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    control: Arc<C>,
) {
    let (_stopping, stopped) = watch::channel(());
    serve_connection(stream, Arc::new(Handlers::new(control)), stopped).await;
}

async fn serve_connection<C: Control>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    handlers: Arc<Handlers<C>>,
    mut stopped: watch::Receiver<()>,
) {
    let service = service_fn(move |request| {
        let handlers = Arc::clone(&handlers);
        async move { Ok::<_, Infallible>(handlers.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "an admin connection ended early");
    }
}
