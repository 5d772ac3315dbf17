//! The sockets a broker listens on.

use std::net::{SocketAddr, TcpListener};

use super::ServerError;
use crate::config::Config;

/// Bound sockets, not served yet. Tests bind port 0 first and write the addresses into the configurations.
#[derive(Debug)]
pub struct Listeners {
    /// For clients.
    pub native: TcpListener,
    /// For the other brokers.
    pub peer: TcpListener,
    /// For the admin API.
    pub http: TcpListener,
}

/// Where a broker listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For clients.
    pub native: SocketAddr,
    /// For the other brokers.
    pub peer: SocketAddr,
    /// For the admin API.
    pub http: SocketAddr,
}

impl Listeners {
    /// Binds the configured addresses.
    ///
    /// # Errors
    /// One of them cannot be bound.
    pub fn bind(config: &Config) -> Result<Listeners, ServerError> {
        Ok(Listeners {
            native: bind("native", &config.listen.native)?,
            peer: bind("peer", &config.listen.peer)?,
            http: bind("http", &config.listen.http)?,
        })
    }

    /// Where the sockets are: with the ports the system chose for port 0.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            native: self.native.local_addr()?,
            peer: self.peer.local_addr()?,
            http: self.http.local_addr()?,
        })
    }
}

fn bind(listener: &'static str, address: &str) -> Result<TcpListener, ServerError> {
    let refuse = |source| ServerError::Listen { listener, address: address.to_owned(), source };
    let socket = TcpListener::bind(address).map_err(refuse)?;
    socket.set_nonblocking(true).map_err(refuse)?;
    Ok(socket)
}
