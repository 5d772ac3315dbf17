//! How commands reach the cluster.

use std::future::Future;
use std::time::Duration;

use clap::Args;
use lockstep_client::{Client, ClientOptions};
use lockstep_protocol::native::BrokerInfo;
use tokio::task::JoinSet;

use super::exit::CliError;

/// Time for one answer, however soon the command is to give up.
const REQUEST_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// Time for one answer, however long the command may try.
const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Time for one connection, however soon the command is to give up.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Time for one connection, however long the command may try.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// Which brokers to talk to.
#[derive(Debug, Clone, Args)]
pub(crate) struct BrokerArgs {
    /// Brokers to connect to, separated by commas; any one is enough.
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        env = "LOCKSTEP_BROKERS",
        default_value = "127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420"
    )]
    pub(crate) brokers: String,
    /// Seconds to keep trying before giving up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub(crate) timeout: f64,
}

impl BrokerArgs {
    /// Connects to the first broker that answers.
    pub(crate) async fn connect(&self) -> Result<Client, CliError> {
        self.connect_with(self.options()?).await
    }

    /// Options that keep to the timeout.
    pub(crate) fn options(&self) -> Result<ClientOptions, CliError> {
        let budget = Duration::try_from_secs_f64(self.timeout)
            .map_err(|_| CliError::Usage(format!("--timeout {}: give seconds from 0 on", self.timeout)))?;
        // One answer may not take longer than all attempts together.
        let request_timeout = budget.clamp(REQUEST_TIMEOUT_MIN, REQUEST_TIMEOUT_MAX);
        let connect_timeout = budget.clamp(CONNECT_TIMEOUT_MIN, CONNECT_TIMEOUT_MAX);
        let options = ClientOptions::new().retry_budget(budget).request_timeout(request_timeout);
        Ok(options.connect_timeout(connect_timeout))
    }

    /// Connects with other options.
    pub(crate) async fn connect_with(&self, options: ClientOptions) -> Result<Client, CliError> {
        Ok(Client::connect_with(self.brokers.as_str(), options.client_name("lockstep-cli")).await?)
    }
}

/// A broker, and whether it answers.
pub(crate) struct BrokerLine {
    pub(crate) info: BrokerInfo,
    pub(crate) up: bool,
}

/// Asks all brokers at the same time whether they are there; by id.
pub(crate) async fn probe(client: &Client, brokers: Vec<BrokerInfo>) -> Vec<BrokerLine> {
    let mut asked = JoinSet::new();
    for info in brokers {
        let client = client.clone();
        asked.spawn(async move {
            let up = client.node_answers(info.id).await.is_ok();
            BrokerLine { info, up }
        });
    }
    let mut lines = asked.join_all().await;
    lines.sort_by_key(|line| line.info.id);
    lines
}

/// Runs a command's asynchronous part.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_timeout_bounds_the_connection_to_a_broker_that_says_nothing() {
        // It takes connections into its backlog and never greets.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let brokers = silent.local_addr().unwrap().to_string();
        let args = BrokerArgs { brokers, timeout: 0.1 };
        let started = std::time::Instant::now();
        let result = block_on(args.connect());
        assert!(result.is_err());
        assert!(started.elapsed() < CONNECT_TIMEOUT_MAX, "the limit without --timeout would be longer");
    }
}
