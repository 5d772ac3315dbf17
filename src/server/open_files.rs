//! How many files a broker may have open.
//!
//! A replica holds one file, the segment it writes; readers of all of them share a few ([`READ_FILES_MAX`]); each
//! connection is one more. The system's usual soft limit (1,024) is far below what it grants who asks, the hard one: a
//! broker asks at its start.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::engine::READ_FILES_MAX;

/// Listeners, timers, connections of peers and of the admin interface, files being written anew.
const OTHERS: usize = 512;

/// Raises the limit to what the system grants, and warns if that is too little for so many replicas.
pub(super) fn provide_for(config: &Config, replicas: usize) {
    let limit = raise();
    if let Some(warning) = warning(limit, replicas, config.limits.max_connections) {
        tracing::warn!(limit, "{warning}");
    }
}

/// Raises the soft limit to the hard one; returns what is in force, nothing for no limit.
pub(crate) fn raise() -> Option<u64> {
    let found = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: found.maximum, maximum: found.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the number of files that may be open");
            found.current
        }
    }
}

/// What to tell whoever runs a broker with so many replicas and connections under this limit, if anything.
fn warning(limit: Option<u64>, replicas: usize, connections: usize) -> Option<String> {
    let needed = (replicas + connections + READ_FILES_MAX + OTHERS) as u64;
    let limit = limit.filter(|limit| *limit < needed)?;
    Some(format!(
        "{replicas} replicas and up to {connections} client connections (limits.max_connections) may need {needed} open \
         files, and {limit} are allowed: raise the hard limit (ulimit -Hn {needed}; LimitNOFILE={needed} for systemd; \
         --ulimit nofile={needed} for docker), or lower limits.max_connections"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_too_low_for_the_replicas_is_told_with_what_to_set_it_to() {
        let connections = 1_000;
        let enough = (3_000 + connections + READ_FILES_MAX + OTHERS) as u64;
        assert_eq!(warning(Some(enough), 3_000, connections), None);
        assert_eq!(warning(None, 3_000, connections), None);
        let warning = warning(Some(enough - 1), 3_000, connections).expect("one too few");
        assert!(warning.contains(&format!("LimitNOFILE={enough}")), "{warning}");
        assert!(warning.contains("limits.max_connections"), "{warning}");
    }

    #[test]
    fn a_broker_asks_for_all_that_the_system_grants() {
        raise();
        let found = getrlimit(Resource::Nofile);
        assert_eq!(found.current, found.maximum);
    }
}
