//! What a request asks: the values in its path, its query, and its body.

use std::borrow::Cow;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::answer::{JSON, Refusal};

/// Largest request body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// A body must be there within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A body as it comes from a socket.
pub(super) trait RequestBody:
    Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send
{
}

impl<B> RequestBody for B where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send
{
}

/// What stood in the placeholders of a path, in order.
pub(super) struct Path<'a>(Vec<Cow<'a, str>>);

impl<'a> Path<'a> {
    /// Decodes what was percent-encoded.
    pub(super) fn decode(segments: Vec<&'a str>) -> Result<Path<'a>, Refusal> {
        let decode = |segment: &'a str| {
            let decoded = percent_decode_str(segment).decode_utf8();
            decoded.map_err(|_| {
                Refusal::invalid(format!("{segment:?} is not UTF-8 when decoded"), "percent-encode UTF-8")
            })
        };
        segments.into_iter().map(decode).collect::<Result<_, _>>().map(Path)
    }

    fn segment(&self, place: usize) -> &str {
        self.0.get(place).map_or("", |segment| segment)
    }

    /// A broker's id.
    pub(super) fn broker(&self) -> Result<u64, Refusal> {
        let text = self.segment(0);
        let wrong = |_| Refusal::invalid(format!("{text:?} is not a broker's id"), "use a number from 1 on");
        text.parse().map_err(wrong)
    }

    /// A topic's name.
    pub(super) fn topic(&self) -> &str {
        self.segment(0)
    }

    /// A topic's name and a partition's number.
    pub(super) fn partition(&self) -> Result<(&str, u32), Refusal> {
        let text = self.segment(1);
        let wrong =
            |_| Refusal::invalid(format!("{text:?} is not a partition's number"), "use a number from 0 on");
        Ok((self.topic(), text.parse().map_err(wrong)?))
    }

    /// A consumer group's name, behind a topic and a partition.
    pub(super) fn group(&self) -> &str {
        self.segment(2)
    }
}

/// A request whose route was found.
pub(super) struct Call<'a, B> {
    pub(super) path: Path<'a>,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    body: B,
}

impl<'a, B: RequestBody> Call<'a, B> {
    pub(super) fn new(path: Path<'a>, head: &'a Parts, body: B) -> Self {
        Call { path, uri: &head.uri, headers: &head.headers, body }
    }

    /// The value of `name` in the query, decoded.
    pub(super) fn asked(&self, name: &str) -> Option<String> {
        let pairs = self.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
        values.next().map(|value| percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    /// The body as a `T`, with the path; bounded in size and time, and only if it is declared as JSON.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<(Path<'a>, T), Refusal> {
        let declared = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let declared = declared.unwrap_or_default();
        if !declared.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON) {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not-json",
                format!("the body is declared as {declared:?}"),
                "send JSON with the header content-type: application/json",
            ));
        }
        let bytes = read(self.body).await?;
        let wrong = |error: serde_json::Error| {
            Refusal::invalid(error.to_string(), "correct the body; GET /openapi.json describes its fields")
        };
        Ok((self.path, serde_json::from_slice(&bytes).map_err(wrong)?))
    }
}

/// The whole body. One that is declared too long is refused before it arrives.
async fn read<B: RequestBody>(body: B) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            format!("the body has more than {BODY_BYTES_MAX} bytes"),
            "send a smaller body",
        )
    };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Refusal::invalid(error.to_string(), "send the whole body")),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-too-slow",
            format!("the body was not there after {} s", BODY_TIMEOUT.as_secs()),
            "send the body at once",
        )),
    }
}
