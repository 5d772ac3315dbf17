//! The native protocol: clients' connections.
//!
//! ```text
//!   socket ── inbound ── connection ──┬─ produce: begun here, in order; answered when committed
//!             frames,    one reader   ├─ everything else: served side by side
//!             budget                  └─ subscriptions: one task each, pushing while there is credit
//!                                          │
//!   socket ◄── outbound: one writer, a bounded queue ◄──┘
//! ```
//!
//! What holds:
//! - Responses come in the order in which they are ready. Produce requests of one connection are judged in
//!   the order in which they were sent, however many are in flight.
//! - A client that sends more than the node's byte budget has room for is not read; one that does not read
//!   its answers is not read either, and is dropped after a minute.
//! - Every request is answered once, except a credit grant, which is not.

mod brokers;
mod connection;
mod fetch;
mod inbound;
mod limits;
mod moves;
mod outbound;
pub mod outcome;
mod positions;
mod produce;
mod requests;
mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::identity::ClusterId;
use crate::metrics;

/// How long to wait after the system refused to accept, as it does when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Clients above the limit that are told so at once; more of them are only cut off.
const FAREWELLS_MAX: usize = 64;

/// Accepts clients until it is dropped, or the broker is out of the cluster; their connections end with it. Of what a broker
/// that was removed knows, nothing holds any more.
pub async fn serve(listener: TcpListener, broker: Broker, cluster: ClusterId) {
    let mut expelled = broker.cluster().expelled();
    tokio::select! {
        () = accept(listener, broker, cluster) => {}
        Ok(_) = expelled.wait_for(Option::is_some) => tracing::info!("clients are not served any more"),
    }
}

async fn accept(listener: TcpListener, broker: Broker, cluster: ClusterId) {
    let slots = Arc::new(Semaphore::new(broker.limits().max_connections));
    let farewells = Arc::new(Semaphore::new(FAREWELLS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            metrics::connection_refused();
            tracing::warn!(%address, "a client was turned away; raise limits.max_connections, or close idle clients");
            if let Ok(place) = Arc::clone(&farewells).try_acquire_owned() {
                connections.spawn(async move {
                    connection::turn_away(stream).await;
                    drop(place);
                });
            }
            continue;
        };
        connections.spawn(serve_one(stream, broker.clone(), cluster, slot));
    }
}

async fn serve_one(
    stream: TcpStream,
    broker: Broker,
    cluster: ClusterId,
    slot: tokio::sync::OwnedSemaphorePermit,
) {
    // Answers are small and awaited: never hold them back to fill a packet.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a client left before it was served");
        return;
    }
    metrics::connection_opened();
    connection::serve(stream, broker, cluster).await;
    metrics::connection_closed();
    drop(slot);
}
