//! Ctrl-C and SIGTERM: noted, so that whatever was started is stopped on the way out.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::error::PeersError;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on a signal no longer ends this process by itself.
pub(crate) fn watch() -> Result<(), PeersError> {
    let failed = |error: std::io::Error| PeersError::Missing(format!("signals cannot be watched: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// An error if there was a signal.
pub(crate) fn check() -> Result<(), PeersError> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(PeersError::Interrupted) } else { Ok(()) }
}
