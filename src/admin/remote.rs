//! Asking the admin interfaces of the other brokers, with bounded time and size.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::problem::Problem;

/// A broker that has not answered by then counts as unreachable.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The JSON at `path` of the broker at `address`; an error says in words why there is none.
pub(super) async fn get<T: DeserializeOwned>(address: &str, path: &str) -> Result<T, String> {
    let (status, body) = request(address, path).await?;
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|error| format!("its answer makes no sense: {error}"));
    }
    let problem: Option<Problem> = serde_json::from_slice(&body).ok();
    Err(problem.map_or_else(|| format!("it answered {status}"), |problem| problem.detail))
}

/// Whether the broker at `address` answers.
pub(super) async fn is_live(address: &str) -> bool {
    request(address, "/livez").await.is_ok_and(|(status, _)| status.is_success())
}

async fn request(address: &str, path: &str) -> Result<(StatusCode, Bytes), String> {
    tokio::time::timeout(ANSWER_TIMEOUT, exchange(address, path))
        .await
        .map_err(|_| format!("no answer from {address} within {} s", ANSWER_TIMEOUT.as_secs()))?
        .map_err(|error| format!("{address}: {error}"))
}

async fn exchange(
    address: &str,
    path: &str,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let socket = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let request = Request::get(path)
        .header(header::HOST, address)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?;
        Ok((status, body.to_bytes()))
    };
    // The connection makes progress only while it is polled; its own error shows in the answer.
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        Err(error) = &mut connection => Err(error.into()),
    }
}
