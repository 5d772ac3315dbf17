//! How a broker with a blank data directory becomes a member of a cluster: it asks one that it knows.
//!
//! ```text
//! blank directory ─► its id, durably ─► ask any broker ─► id in the cluster, founders, brokers ─► formatted directory
//! ```
//!
//! What holds:
//! - A crash anywhere on the way leaves a directory that joins as the same broker when it is started again.
//! - A directory that belongs to a node already is never joined anew: it just starts, unless the brokers it was told to
//!   join are known to be of another cluster.

use std::time::Duration;

use lockstep_client::{Client, ClientOptions};
use lockstep_protocol::native::{BrokerInfo, JoinRequest, JoinResponse};
use tokio::time::{Instant, timeout_at};

use super::ServerError;
use super::start::blocking;
use crate::config::Config;
use crate::identity::{Acquaintance, ClusterId, DirectoryId, Identity, Newborn};

/// How long the cluster may take to take it in: it may be starting, or electing a leader.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait before brokers that did not answer are tried again.
const CONNECT_PAUSE: Duration = Duration::from_millis(500);
/// How long a broker that belongs to a cluster waits to hear whether that is the one it was told to join.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes the blank data directory that of a new member of the cluster.
///
/// # Errors
/// No broker can be reached, or the cluster does not take this one.
pub(super) async fn join(config: &Config) -> Result<Identity, ServerError> {
    let own = config.own_addresses();
    let seeds = config.join.join(",");
    check_reach(&config.join, &own.peer)?;
    let refused = |why: String| ServerError::Join { seeds: seeds.clone(), why };
    let client = connect(config, JOIN_TIMEOUT).await.map_err(refused)?;
    if let (Some(found), Some(expected)) = (client.cluster_id().map(ClusterId), config.cluster)
        && found != expected
    {
        let why = format!("they belong to cluster {found}, not to {expected}; correct `join` or `cluster`");
        return Err(refused(why));
    }
    let newborn = {
        let data = config.data.clone();
        blocking(move || Newborn::prepare(&data)).await?
    };
    let request = JoinRequest {
        directory: newborn.directory().0,
        native: own.native,
        peer: own.peer,
        http: own.http,
        rack: config.rack.clone(),
    };
    let joined = client.join(request).await.map_err(|error| refused(error.to_string()))?;
    let JoinResponse { cluster, broker, founders, brokers } = joined;
    let brokers = brokers.into_iter().map(acquaintance).collect();
    let identity =
        blocking(move || newborn.become_node(ClusterId(cluster), broker, founders, brokers)).await?;
    tracing::info!(broker, cluster = %identity.cluster, "joined the cluster");
    Ok(identity)
}

/// Refuses a directory of one cluster that was told to join another. Brokers that do not answer say nothing.
///
/// # Errors
/// They are of another cluster.
pub(super) async fn check_cluster(config: &Config, identity: &Identity) -> Result<(), ServerError> {
    let Ok(client) = connect(config, CHECK_TIMEOUT).await else { return Ok(()) };
    match client.cluster_id().map(ClusterId) {
        Some(found) if found != identity.cluster => {
            let why = format!(
                "they belong to cluster {found}, but {} is a broker's of cluster {}; give an empty directory to join, or \
                 leave `join` away",
                config.data.display(),
                identity.cluster
            );
            Err(ServerError::Join { seeds: config.join.join(","), why })
        }
        _ => Ok(()),
    }
}

async fn connect(config: &Config, patience: Duration) -> Result<Client, String> {
    let options = ClientOptions::new().client_name("lockstep-serve").retry_budget(patience);
    let deadline = Instant::now() + patience;
    let mut said = false;
    loop {
        let connecting = Client::connect_with(&config.join[..], options.clone());
        let error = match timeout_at(deadline, connecting).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) if !error.is_retryable() => return Err(error.to_string()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "none of them answers; name a broker that runs".into(),
        };
        if Instant::now() + CONNECT_PAUSE >= deadline {
            return Err(error);
        }
        if !said {
            tracing::warn!(why = error, "no broker of the cluster answers yet; trying on");
            said = true;
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
}

/// A broker that tells machines elsewhere to reach it at a loopback address is never reached.
fn check_reach(seeds: &[String], own_peer: &str) -> Result<(), ServerError> {
    let is_loopback = |address: &str| {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        host == "localhost" || host.starts_with("127.") || host == "[::1]"
    };
    if is_loopback(own_peer) && !seeds.iter().any(|seed| is_loopback(seed)) {
        let why = format!(
            "the others could not reach this one at {own_peer}; set `advertise` (native, peer, http) to addresses that \
             they can reach"
        );
        return Err(ServerError::Join { seeds: seeds.join(","), why });
    }
    Ok(())
}

fn acquaintance(info: BrokerInfo) -> Acquaintance {
    Acquaintance {
        id: info.id,
        directory: info.directory.map(DirectoryId),
        native: info.native,
        peer: info.peer,
        http: info.http,
        rack: info.rack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_only_this_machine_can_reach_is_no_way_to_join_another() {
        let check = |seed: &str, own| check_reach(&[seed.to_owned()], own);
        assert!(check("10.0.0.1:7400", "127.0.0.1:7401").unwrap_err().to_string().contains("advertise"));
        assert!(check("10.0.0.1:7400", "10.0.0.4:7401").is_ok());
        assert!(check("127.0.0.1:7400", "127.0.0.1:7431").is_ok());
    }
}
