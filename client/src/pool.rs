//! One connection per broker, made when it is first needed and again when it failed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use crate::connection::Connection;
use crate::options::ClientOptions;
use crate::retry::Failure;

/// A broker's connection, if there is one; whoever holds the lock may make it.
type Slot = Arc<AsyncMutex<Option<Arc<Connection>>>>;

/// The connections of one client.
pub(crate) struct Pool {
    options: ClientOptions,
    /// The only cluster to talk to, once it is known.
    cluster: Mutex<Option<[u8; 16]>>,
    slots: Mutex<BTreeMap<String, Slot>>,
    opened: AtomicU64,
}

impl Pool {
    pub(crate) fn new(options: ClientOptions) -> Self {
        let cluster = Mutex::new(options.cluster);
        Self { options, cluster, slots: Mutex::new(BTreeMap::new()), opened: AtomicU64::new(0) }
    }

    /// The connection to this address: the one there is, or a new one.
    pub(crate) async fn get(&self, address: &str) -> Result<Arc<Connection>, Failure> {
        let slot = self.slot(address);
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref()
            && !connection.is_closed()
        {
            return Ok(Arc::clone(connection));
        }
        *slot = None;
        let connection = Arc::new(Connection::open(address, &self.options, self.cluster()).await?);
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.remember_cluster(connection.hello().cluster);
        *slot = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// How many connections were opened so far.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The cluster's id, once a broker has said it.
    pub(crate) fn cluster(&self) -> Option<[u8; 16]> {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_cluster(&self, cluster: [u8; 16]) {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cluster);
    }

    fn slot(&self, address: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(address) {
            return Arc::clone(slot);
        }
        Arc::clone(slots.entry(address.to_owned()).or_default())
    }
}
