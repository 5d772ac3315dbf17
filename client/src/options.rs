//! How a client behaves.

use std::time::Duration;

use crate::retry::RetryPolicy;

/// How a client connects, waits and retries.
///
/// ```
/// use std::time::Duration;
/// use lockstep_client::ClientOptions;
///
/// let options = ClientOptions::new()
///     .client_name("invoices")
///     .request_timeout(Duration::from_secs(5))
///     .retry_budget(Duration::from_secs(30));
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct ClientOptions {
    pub(crate) client_name: String,
    pub(crate) cluster: Option<[u8; 16]>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) retry: RetryPolicy,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            client_name: "lockstep-client".to_owned(),
            cluster: None,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
            retry: RetryPolicy::default(),
        }
    }
}

impl ClientOptions {
    /// The defaults: 2 s to connect, 10 s for an answer, 60 s of retries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the client calls itself in the brokers' logs.
    #[must_use]
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = name.into();
        self
    }

    /// The only cluster to talk to. Without it the first broker's cluster is taken, and kept.
    #[must_use]
    pub fn cluster(mut self, id: [u8; 16]) -> Self {
        self.cluster = Some(id);
        self
    }

    /// Time to open a connection and exchange greetings.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Time for one broker to answer one request; after it the request is tried anew, elsewhere perhaps.
    #[must_use]
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// Time from the first attempt at a request to the last.
    #[must_use]
    pub fn retry_budget(mut self, budget: Duration) -> Self {
        self.retry.budget = budget;
        self
    }

    /// Shortest and longest wait between two attempts.
    #[must_use]
    pub fn retry_delays(mut self, first: Duration, max: Duration) -> Self {
        self.retry.first_delay = first;
        self.retry.max_delay = max;
        self
    }
}
