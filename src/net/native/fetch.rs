//! Fetch requests.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep_protocol::native::{FetchRequest, FetchResponse, Fetched};
use lockstep_protocol::{ErrorOutcome, Frame};

use super::connection::Context;
use super::outbound::Gone;
use super::outcome::ToOutcome;
use crate::broker::{self, Fetch, FetchError, FetchFrom};
use crate::metrics;

/// The longest a client may wait for records.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Reads, waits if it must, and answers with the batches as they are stored.
pub(super) async fn serve(context: &Context, frame: &Frame) -> Result<(), Gone> {
    let begun = Instant::now();
    let Some(request) = context.decode::<FetchRequest>(frame).await? else { return Ok(()) };
    // A sixteenth of the frame is left for the answer's message.
    let frame_bytes_max = context.broker.limits().max_frame_bytes as usize;
    let most = (request.max_bytes as usize).min(frame_bytes_max - frame_bytes_max / 16);
    let from = |item: lockstep_protocol::native::FetchItem| FetchFrom {
        topic: item.topic,
        partition: item.partition,
        from_lsn: item.from_lsn,
        max_bytes: item.max_bytes as usize,
    };
    let asked: Vec<u64> = request.items.iter().map(|item| item.from_lsn).collect();
    let fetch = Fetch {
        items: request.items.into_iter().map(from).collect(),
        min_bytes: (request.min_bytes as usize).min(most),
        max_bytes: most,
        max_wait: Duration::from_millis(request.max_wait_ms.into()).min(WAIT_MAX),
    };
    let answer = context.broker.fetch(&fetch, &context.memory).await;

    let mut payload: Vec<Bytes> = Vec::new();
    let mut records = 0;
    let mut items = Vec::with_capacity(answer.items.len());
    for (item, from_lsn) in answer.items.into_iter().zip(asked) {
        let batches = item.as_ref().map_or(&[][..], |fetched| &fetched.batches);
        records += batches.iter().map(|batch| u64::from(batch.record_count)).sum::<u64>();
        payload.extend(batches.iter().map(|batch| batch.bytes.clone()));
        items.push(to_item(context, item, from_lsn));
    }
    let response = context.respond::<FetchRequest>(frame, &Ok(FetchResponse { items }), payload);
    metrics::request_answered("fetch");
    metrics::fetch_answered(begun.elapsed(), response.total_bytes() as u64, records);
    context.outbound.send(response, answer.lease).await
}

fn to_item(
    context: &Context,
    item: Result<broker::Fetched, FetchError>,
    from_lsn: u64,
) -> Result<Fetched, ErrorOutcome> {
    match item {
        Ok(fetched) => Ok(Fetched {
            log_start: fetched.log_start,
            high_watermark: fetched.high_watermark,
            first_lsn: fetched.batches.first().map_or(from_lsn, |batch| batch.first_lsn),
            payload_length: u32::try_from(fetched.bytes()).unwrap_or(u32::MAX),
        }),
        Err(error) => {
            let outcome = error.to_outcome(&context.broker);
            metrics::request_failed("fetch", outcome.code.name());
            Err(outcome)
        }
    }
}
