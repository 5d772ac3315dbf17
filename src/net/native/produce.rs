//! Produce requests: begun in the order they came, answered when their batches are committed.

use std::pin::Pin;
use std::time::{Duration, Instant};

use lockstep_protocol::native::{Durability, ProduceRequest, ProduceResponse, Produced};
use lockstep_protocol::{EncodedFrame, ErrorCode, ErrorOutcome, Frame, Outcome};

use super::connection::Context;
use super::inbound::lend;
use super::ordered::Together;
use super::outbound::Gone;
use super::outcome::ToOutcome;
use crate::broker::{Broker, ByteLease, ProduceBatch, ProduceError};
use crate::engine::Appended;
use crate::metrics;

/// The longest a client may wait for a commit.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Hands the batches to their partitions, in order, before it returns; what is returned waits for their
/// commit and answers. Nothing is, if the request is refused or answered already.
pub(super) async fn begin(
    context: &Context,
    frame: Frame,
    lease: Option<ByteLease>,
) -> Result<Option<impl Future<Output = ()> + Send + use<>>, Gone> {
    let received = Instant::now();
    let Some(request) = context.decode::<ProduceRequest>(&frame).await? else { return Ok(None) };
    let batches = match request.split_payload(&frame.payload) {
        Ok(batches) => batches,
        Err(error) => {
            let outcome = ErrorOutcome::new(ErrorCode::MalformedRequest, error.to_string());
            return context.refuse(&frame, &outcome).await.map(|()| None);
        }
    };
    let lease = match lease {
        Some(lease) => lease,
        None => lend(context.broker.inflight(), frame.payload.len()).await,
    };
    let timeout = Duration::from_millis(request.timeout_ms.into()).min(TIMEOUT_MAX);
    let appends = request.batches.into_iter().zip(batches).map(|(item, batch)| {
        let broker = context.broker.clone();
        let batch = ProduceBatch {
            topic: item.topic,
            partition: item.partition,
            batch,
            expected_next_lsn: item.expected_next_lsn,
            fence: item.fence,
        };
        let append = async move { broker.produce(batch, timeout).await };
        Box::pin(append) as Pin<Box<dyn Future<Output = Result<Appended, ProduceError>> + Send>>
    });
    let mut appends = Together::new(appends);
    let done = appends.begin().await;
    let context = context.clone();
    let bytes = frame.payload.len() as u64;
    Ok(Some(async move {
        let results = match done {
            Some(results) => results,
            None => appends.finish().await,
        };
        let records =
            results.iter().flatten().map(|appended| appended.last_lsn - appended.first_lsn + 1).sum();
        let results = results.into_iter().map(|result| to_outcome(&context.broker, result)).collect();
        let answer = Ok(ProduceResponse { results });
        metrics::produce_answered(received.elapsed(), bytes, records);
        metrics::request_answered("produce");
        let answer = EncodedFrame::response::<ProduceRequest>(frame.correlation, &answer, Vec::new());
        // The lease ends before the answer waits in the queue: it counts batches that are not committed.
        drop((frame, lease));
        let inflight = context.broker.inflight();
        metrics::inflight(inflight.held_bytes(), inflight.total_bytes());
        let _ = context.outbound.send(answer, None).await;
    }))
}

fn to_outcome(broker: &Broker, result: Result<Appended, ProduceError>) -> Outcome<Produced> {
    match result {
        Ok(Appended { first_lsn, last_lsn, duplicate }) => {
            Ok(Produced { first_lsn, last_lsn, duplicate, acked: Durability::SyncedMajority })
        }
        Err(error) => {
            let outcome = error.to_outcome(broker);
            metrics::request_failed("produce", outcome.code.name());
            Err(outcome)
        }
    }
}
