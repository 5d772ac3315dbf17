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
    /// This node's id: 1, 2, 3 …; by default what the data directory says.
    #[arg(long, value_name = "ID")]
    pub node: Option<u64>,
    /// Brokers of the cluster to join, separated by commas: for a new broker with an empty data directory.
    #[arg(long, value_name = "HOST:PORT,…")]
    pub join: Option<String>,
    /// What fails together with this node, such as a rack or a zone.
    #[arg(long, value_name = "NAME")]
    pub rack: Option<String>,
    /// Listen on 127.0.0.1 alone, on this port for clients and the next two for brokers and HTTP: for several on a machine.
    #[arg(
        long,
        value_name = "PORT",
        conflicts_with_all = ["listen_native", "listen_peer", "listen_http"],
        value_parser = clap::value_parser!(u16).range(1..=65_533)
    )]
    pub port_base: Option<u16>,
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
        if let Some(join) = &self.join {
            table.insert("join".into(), super::sources::list(join));
        }
        if let Some(rack) = &self.rack {
            table.insert("rack".into(), rack.clone().into());
        }
        let mut listen = toml::Table::new();
        let names = ["native", "peer", "http"];
        let addresses = match self.port_base {
            Some(base) => [0, 1, 2].map(|offset| Some(format!("127.0.0.1:{}", base + offset))),
            None => [&self.listen_native, &self.listen_peer, &self.listen_http].map(Clone::clone),
        };
        for (name, address) in names.into_iter().zip(addresses) {
            if let Some(address) = address {
                listen.insert(name.into(), address.into());
            }
        }
        if !listen.is_empty() {
            table.insert("listen".into(), listen.into());
        }
        table
    }
}
