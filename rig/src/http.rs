//! Just enough HTTP to ask a broker how it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Time to connect, and for the answer.
const TIME_MAX: Duration = Duration::from_secs(2);

/// A GET's status and body, if the broker answers.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIME_MAX).ok()?;
    stream.set_read_timeout(Some(TIME_MAX)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    parse(&String::from_utf8_lossy(&answer))
}

/// A GET's body as JSON, if it is answered with 200.
#[must_use]
pub fn json(address: SocketAddr, path: &str) -> Option<Value> {
    let (status, body) = get(address, path)?;
    if status == 200 { serde_json::from_str(&body).ok() } else { None }
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The value of a series in Prometheus' text format.
#[must_use]
pub fn series(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_taken_apart() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno";
        assert_eq!(parse(answer), Some((503, "no".to_owned())));
        assert_eq!(parse("HTTP/1.1 200"), None);
    }

    #[test]
    fn a_series_is_found_by_its_whole_name() {
        let metrics = "# TYPE a gauge\na{health=\"failed\"} 2\na{health=\"faulty\"} 0\nab 7\n";
        assert_eq!(series(metrics, "a{health=\"failed\"}"), Some(2.0));
        assert_eq!(series(metrics, "a"), None);
    }
}
