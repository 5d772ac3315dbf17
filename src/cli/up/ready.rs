//! Asks a broker whether it is ready.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Time for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether the broker whose HTTP address this is answers `/readyz` with 200.
pub(crate) async fn is_ready(http: &str) -> bool {
    tokio::time::timeout(ANSWER_TIME_MAX, ask(http)).await.unwrap_or(false)
}

/// Waits until it does.
pub(crate) async fn until_ready(http: &str) {
    while !is_ready(http).await {
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(http: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(http).await else { return false };
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.is_ok()
        && status.starts_with(b"HTTP/1.")
        && status.ends_with(b" 200")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn broker_that_says(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 256];
            let _ = stream.read(&mut request).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn only_200_is_ready() {
        assert!(is_ready(&broker_that_says("HTTP/1.1 200 OK\r\n\r\n").await).await);
        assert!(!is_ready(&broker_that_says("HTTP/1.1 503 Service Unavailable\r\n\r\n").await).await);
        assert!(!is_ready(&broker_that_says("HTTP").await).await);
    }
}
