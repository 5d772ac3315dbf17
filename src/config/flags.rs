//! The flags of `lockstep serve`: the strongest source of settings.

use std::path::PathBuf;

/// What can be set on the command line of `lockstep serve`; everything else is in the file or environment.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServeFlags {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_CONFIG")]
    pub config: Option<PathBuf>,
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// This node's id: 1, 2, 3 …
    #[arg(long, value_name = "ID")]
    pub node: Option<u64>,
    /// Where to listen for clients.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen_native: Option<String>,
    /// Where to listen for the other brokers.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen_peer: Option<String>,
    /// Where to serve the admin API, health checks and metrics.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen_http: Option<String>,
    /// Print the effective configuration as TOML and exit.
    #[arg(long)]
    pub print_config: bool,
}

impl ServeFlags {
    /// The flags that were given, as a table laid out like the file.
    pub(super) fn table(&self) -> toml::Table {
        let mut table = toml::Table::new();
        if let Some(data) = &self.data {
            table.insert("data".into(), data.to_string_lossy().into_owned().into());
        }
        if let Some(node) = self.node {
            table.insert("node".into(), i64::try_from(node).unwrap_or(i64::MAX).into());
        }
        let mut listen = toml::Table::new();
        let addresses =
            [("native", &self.listen_native), ("peer", &self.listen_peer), ("http", &self.listen_http)];
        for (name, address) in addresses {
            if let Some(address) = address {
                listen.insert(name.into(), address.clone().into());
            }
        }
        if !listen.is_empty() {
            table.insert("listen".into(), listen.into());
        }
        table
    }
}
