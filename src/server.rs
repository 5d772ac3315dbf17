//! The composition: a configuration becomes a running broker here, and nowhere else.
//!
//! ```text
//! config ─► data directory ─► disk ─► engine ─► cluster ─► broker ─┬─► native listener
//!                                       ▲                          └─► admin listener
//!                                       └── peers ◄─► peer listener
//! ```
//!
//! What holds:
//! - The addresses are bound and the directory is locked before anything is read or written: a port in use
//!   or a second broker is found at once.
//! - Only a node that is a whole cluster by itself formats its own directory; one of several does only if it
//!   is configured to (`bootstrap`), and its peers refuse it if they know another directory of its. One that joins a
//!   cluster asks it first.
//! - Stopping hands leadership over first, then seals every log.

mod error;
mod joining;
mod listeners;
pub(crate) mod open_files;
mod running;
mod start;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, LogFormat};
pub use error::ServerError;
pub use listeners::{Addresses, Listeners};
pub use running::Server;

/// Runs a broker until it is told to stop (SIGTERM or SIGINT). Makes a runtime of its own: to be called
/// outside of one.
///
/// # Errors
/// The broker could not start; the message names the fix.
pub fn run(config: Config) -> Result<(), ServerError> {
    start_logging(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(start::worker_count(&config))
        .thread_name("lockstep")
        .enable_all()
        .build()
        .map_err(ServerError::Runtime)?;
    runtime.block_on(async {
        // Before the start: a signal that comes while logs are recovered is not lost.
        let mut terminated = signal(SignalKind::terminate()).map_err(ServerError::Runtime)?;
        let mut interrupted = signal(SignalKind::interrupt()).map_err(ServerError::Runtime)?;
        // A start that is cut off is like a kill: whoever waits for a cluster to join is not made to wait on.
        let server = tokio::select! {
            server = Server::start(config) => server?,
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
        };
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        tracing::info!("stopping");
        server.stop().await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Sends the broker's own log to standard error, once per process; later calls change nothing.
fn start_logging(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.filter).unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match config.log.format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}

#[cfg(test)]
mod tests;
