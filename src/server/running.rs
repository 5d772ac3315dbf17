//! A broker that runs.

use std::sync::Arc;
use std::time::Duration;

use lockstep_storage::io::Disk;
use lockstep_storage::io::real::RealDisk;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::start::{engine_options, open_directory, seed};
use super::{Addresses, Listeners, ServerError, open_files};
use crate::admin;
use crate::broker::Broker;
use crate::cluster::{Cluster, Colleagues, KnownBroker, Roster};
use crate::config::Config;
use crate::engine::{Engine, PeerSender};
use crate::identity::DataDirectory;
use crate::net::native;
use crate::net::peer::Peers;

/// How long open admin requests may take while the broker stops.
const ADMIN_FAREWELL: Duration = Duration::from_secs(2);

/// Questions of other brokers that wait for their turn; more are dropped, and asked again.
const QUESTIONS_WAITING_MAX: usize = 256;

/// A broker that runs, until [`Server::stop`]. Dropping it without stopping is like a kill.
pub struct Server {
    config: Arc<Config>,
    addresses: Addresses,
    directory: Arc<DataDirectory>,
    engine: Engine,
    broker: Broker,
    peers: Arc<Peers>,
    native: JoinHandle<()>,
    peer_tasks: JoinSet<()>,
    admin: JoinHandle<()>,
    stop_admin: Option<oneshot::Sender<()>>,
}

impl Server {
    /// Binds the configured addresses and starts a broker on them. Needs a tokio runtime.
    ///
    /// # Errors
    /// The configuration, an address, the directory or the metadata log cannot be used.
    pub async fn start(config: Config) -> Result<Server, ServerError> {
        config.validate()?;
        let listeners = Listeners::bind(&config)?;
        Server::start_on(config, listeners).await
    }

    /// Starts a broker on sockets that are bound already. Needs a tokio runtime.
    ///
    /// # Errors
    /// The configuration, the directory or the metadata log cannot be used.
    pub async fn start_on(mut config: Config, listeners: Listeners) -> Result<Server, ServerError> {
        config.validate()?;
        let addresses = listeners.addresses().map_err(ServerError::Runtime)?;
        let [native, peer, http] = adopt(&mut config, listeners, addresses)?;
        let config = Arc::new(config);
        let directory = open_directory(&config).await?;
        let identity = directory.identity().clone();
        // From here on the directory says who this node is.
        let config = Arc::new(Config { node: identity.node, ..Config::clone(&config) });
        open_files::provide_for(&config, directory.shards().len());
        tracing::info!(node = identity.node, cluster = %identity.cluster, native = %addresses.native, peer = %addresses.peer, http = %addresses.http, "starting");

        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.path()));
        let hearsay: Vec<KnownBroker> = match directory.joined() {
            Some(joined) => joined.brokers.iter().map(KnownBroker::from).collect(),
            None => config.members().iter().map(KnownBroker::from).collect(),
        };
        let roster = Arc::new(Roster::new(hearsay, directory.brokers().iter().map(KnownBroker::from)));
        let peers = Peers::new(identity.node, Arc::clone(&roster));
        let sender: Arc<dyn PeerSender> = Arc::clone(&peers) as Arc<dyn PeerSender>;
        let engine = Engine::start(engine_options(&config, seed()?), disk, sender);
        // The peers are heard before the logs are open: what comes for a shard that is not is dropped.
        let (mailbox, asked) = mpsc::channel(QUESTIONS_WAITING_MAX);
        let peer_tasks = peers.start(peer, &engine, &directory, mailbox, seed()?);
        let colleagues: Arc<dyn Colleagues> = Arc::clone(&peers) as Arc<dyn Colleagues>;
        let cluster =
            Cluster::start(&config, engine.clone(), Arc::clone(&directory), roster, colleagues, asked)
                .await?;
        let broker = Broker::new(&config, cluster);
        let native = tokio::spawn(native::serve(native, broker.clone(), identity.cluster));

        let (stop_admin, stopped) = oneshot::channel();
        let control = admin::BrokerControl::new(broker.clone(), Config::clone(&config), identity.cluster);
        let admin = tokio::spawn(admin::serve(http, Arc::new(control), async {
            let _ = stopped.await;
        }));
        Ok(Server {
            config,
            addresses,
            directory,
            engine,
            broker,
            peers,
            native,
            peer_tasks,
            admin,
            stop_admin: Some(stop_admin),
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its settings in force, with the ports the system chose.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its use cases.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Its shards.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its data directory.
    pub fn directory(&self) -> &DataDirectory {
        &self.directory
    }

    /// The nodes it has a connection to.
    pub fn connected_peers(&self) -> Vec<u64> {
        self.peers.connected()
    }

    /// Stops: no new clients, leadership handed over, every log sealed and synced.
    pub async fn stop(mut self) {
        // While clients are still connected: they are told who leads now, rather than cut off.
        self.engine.hand_over().await;
        self.native.abort();
        let _ = (&mut self.native).await;
        self.broker.cluster().stop().await;
        // Before the logs are sealed: other leaders would go on writing to them.
        self.peer_tasks.shutdown().await;
        self.engine.shutdown().await;
        if let Some(stop) = self.stop_admin.take() {
            let _ = stop.send(());
        }
        if tokio::time::timeout(ADMIN_FAREWELL, &mut self.admin).await.is_err() {
            self.admin.abort();
        }
        self.directory.release();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.native.abort();
        self.admin.abort();
    }
}

/// Hands the sockets to the runtime, and writes the ports the system chose into the settings.
fn adopt(
    config: &mut Config,
    listeners: Listeners,
    addresses: Addresses,
) -> Result<[TcpListener; 3], ServerError> {
    config.listen.native = addresses.native.to_string();
    config.listen.peer = addresses.peer.to_string();
    config.listen.http = addresses.http.to_string();
    let adopt = |socket: std::net::TcpListener| {
        socket
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(socket))
            .map_err(ServerError::Runtime)
    };
    Ok([adopt(listeners.native)?, adopt(listeners.peer)?, adopt(listeners.http)?])
}
