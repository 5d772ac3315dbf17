//! One client's connection: its requests are read one by one and served side by side.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_protocol::frame::{FrameKind, PROTOCOL_VERSION, ReplyTo};
use lockstep_protocol::native::{Api, HelloRequest, HelloResponse, Message};
use lockstep_protocol::{EncodedFrame, ErrorCode, ErrorOutcome, Frame, FrameError, Outcome, Request};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::inbound::{Inbound, Received, Refused};
use super::outbound::{Gone, Outbound};
use super::subscriptions::Subscriptions;
use super::{limits, produce, requests};
use crate::broker::{Broker, ByteBudget, ByteLease};
use crate::identity::ClusterId;
use crate::metrics;

/// Requests of one connection that are served at once; the next one is read when one is answered.
const REQUESTS_AT_ONCE: usize = 1024;
/// Bytes of records read for one connection and not written to it yet.
const READ_AHEAD_BYTES: u64 = 32 << 20;
/// How long a new connection may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the last requests of a client that sends no more may take.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// How long a refused client may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the requests of a connection share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) broker: Broker,
    pub(super) outbound: Outbound,
    pub(super) memory: ByteBudget,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) cluster: ClusterId,
}

/// Serves a client until it leaves.
pub(super) async fn serve(stream: TcpStream, broker: Broker, cluster: ClusterId) {
    let (read, write) = stream.into_split();
    let mut inbound =
        Inbound::new(read, broker.limits().max_frame_bytes as usize, broker.unfinished().clone());
    let (outbound, mut writer) = Outbound::start(write);
    let memory = broker.reads().part(READ_AHEAD_BYTES);
    let context = Context { broker, outbound, memory, subscriptions: Arc::default(), cluster };
    let mut connection = Connection {
        context,
        greeted: false,
        slots: Arc::new(Semaphore::new(REQUESTS_AT_ONCE)),
        tasks: JoinSet::new(),
    };
    let subscriptions = CloseOnDrop(Arc::clone(&connection.context.subscriptions));
    // The writer ends first only if the client is gone.
    tokio::select! {
        () = connection.read(&mut inbound) => {}
        _ = &mut writer => return,
    }
    drop(subscriptions);
    // A client that has only closed its own direction still reads what it asked for.
    let answered = async { while connection.tasks.join_next().await.is_some() {} };
    tokio::select! {
        _ = tokio::time::timeout(LAST_ANSWERS, answered) => {}
        _ = &mut writer => return,
    }
    connection.tasks.shutdown().await;
    drop(connection);
    let _ = tokio::time::timeout(FAREWELL, writer).await;
    inbound.drain(FAREWELL).await;
}

/// Tells a client that there is no room for it.
pub(super) async fn turn_away(stream: TcpStream) {
    let (read, write) = stream.into_split();
    let message = "this broker has as many connections as it may: use another one, or try again later";
    let outcome = ErrorOutcome::new(ErrorCode::Overloaded, message);
    let (outbound, writer) = Outbound::start(write);
    let _ = outbound.send(EncodedFrame::refusal(ReplyTo::CONNECTION, &outcome), None).await;
    drop(outbound);
    let _ = tokio::time::timeout(FAREWELL, writer).await;
    Inbound::new(read, 0, ByteBudget::new(0)).drain(FAREWELL).await;
}

/// Ends the subscriptions with their connection, also if that is cancelled.
struct CloseOnDrop(Arc<Subscriptions>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Connection {
    context: Context,
    greeted: bool,
    slots: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Connection {
    async fn read(&mut self, inbound: &mut Inbound) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            let next = if self.greeted {
                inbound.next().await
            } else {
                match tokio::time::timeout(HELLO_TIMEOUT, inbound.next()).await {
                    Ok(next) => next,
                    Err(_) => return,
                }
            };
            let handled = match next {
                Ok(received) => {
                    let handled = self.handle(received).await;
                    if self.greeted {
                        inbound.greeted();
                    }
                    handled
                }
                Err(Refused::Frame(error)) => self.refuse(&error).await,
                Err(Refused::Closed) => return,
            };
            if handled.is_err() {
                return;
            }
        }
    }

    /// Answers a frame at fault, if someone can be answered; the connection ends if its boundaries are lost.
    async fn refuse(&self, error: &FrameError) -> Result<(), Gone> {
        metrics::request_failed("frame", error.code().name());
        let outcome = ErrorOutcome::new(error.code(), error.to_string());
        let reply_to = error.reply_to();
        let answer = EncodedFrame::refusal(reply_to.unwrap_or(ReplyTo::CONNECTION), &outcome);
        self.context.outbound.send(answer, None).await?;
        if reply_to.is_some() { Ok(()) } else { Err(Gone) }
    }

    async fn handle(&mut self, received: Received) -> Result<(), Gone> {
        let Received { frame, lease } = received;
        let reply_to = ReplyTo { api: frame.api as u8, correlation: frame.correlation };
        if frame.kind != FrameKind::Request {
            let outcome =
                ErrorOutcome::new(ErrorCode::MalformedRequest, "clients send requests: use frame kind 1");
            return self.context.outbound.send(EncodedFrame::refusal(reply_to, &outcome), None).await;
        }
        if frame.api == Api::Hello {
            return self.hello(&frame).await;
        }
        if !self.greeted {
            let outcome = ErrorOutcome::from(ErrorCode::HandshakeRequired);
            return self.context.outbound.send(EncodedFrame::refusal(reply_to, &outcome), None).await;
        }
        self.dispatch(frame, lease).await
    }

    async fn dispatch(&mut self, frame: Frame, lease: Option<ByteLease>) -> Result<(), Gone> {
        match frame.api {
            Api::Credit => self.context.grant(&frame).await,
            Api::Produce => {
                let begun = produce::begin(&self.context, frame, lease).await?;
                self.spawn(begun).await;
                Ok(())
            }
            Api::Subscribe => self.context.subscribe(&frame).await,
            Api::Unsubscribe => self.context.unsubscribe(&frame).await,
            _ => {
                drop(lease);
                let context = self.context.clone();
                self.spawn(Some(async move {
                    let _ = requests::serve(&context, &frame).await;
                }))
                .await;
                Ok(())
            }
        }
    }

    async fn spawn(&mut self, work: Option<impl Future<Output = ()> + Send + 'static>) {
        let Some(work) = work else { return };
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        self.tasks.spawn(async move {
            work.await;
            drop(slot);
        });
    }

    async fn hello(&mut self, frame: &Frame) -> Result<(), Gone> {
        let Some(request) = self.context.decode::<HelloRequest>(frame).await? else { return Ok(()) };
        let outcome = self.context.welcome(&request);
        self.greeted |= outcome.is_ok();
        if outcome.is_ok() {
            tracing::debug!(client = request.client, "a client said hello");
        }
        self.context.answer::<HelloRequest>(frame, outcome).await
    }
}

impl Context {
    /// The message in a frame; if it is malformed, the client is told and there is none.
    pub(super) async fn decode<M: Message>(&self, frame: &Frame) -> Result<Option<M>, Gone> {
        if let Err(outcome) = limits::check(frame) {
            return self.refuse(frame, &outcome).await.map(|()| None);
        }
        match M::decode(&frame.meta) {
            Ok(message) => Ok(Some(message)),
            Err(error) => {
                let outcome = ErrorOutcome::new(ErrorCode::MalformedRequest, error.to_string());
                self.refuse(frame, &outcome).await.map(|()| None)
            }
        }
    }

    /// Answers a request that takes no payload.
    pub(super) async fn answer<R: Request>(
        &self,
        frame: &Frame,
        outcome: Outcome<R::Response>,
    ) -> Result<(), Gone> {
        let api = requests::label(R::API);
        metrics::request_answered(api);
        if let Err(error) = &outcome {
            metrics::request_failed(api, error.code.name());
        }
        self.outbound.send(self.respond::<R>(frame, &outcome, Vec::new()), None).await
    }

    /// The answer to a request, or a refusal in its place if it would be longer than a frame may be.
    pub(super) fn respond<R: Request>(
        &self,
        frame: &Frame,
        outcome: &Outcome<R::Response>,
        payload: Vec<Bytes>,
    ) -> EncodedFrame {
        let response = EncodedFrame::response::<R>(frame.correlation, outcome, payload);
        let (bytes, most) = (response.total_bytes(), self.broker.limits().max_frame_bytes);
        if bytes <= most as usize {
            return response;
        }
        let message =
            format!("the answer has {bytes} bytes, and a frame at most {most}: ask for less at once");
        let outcome = ErrorOutcome::new(ErrorCode::FrameTooLarge, message);
        EncodedFrame::refusal(ReplyTo { api: frame.api as u8, correlation: frame.correlation }, &outcome)
    }

    /// Refuses a request, whatever its answer would have been.
    pub(super) async fn refuse(&self, frame: &Frame, outcome: &ErrorOutcome) -> Result<(), Gone> {
        let api = requests::label(frame.api);
        metrics::request_answered(api);
        metrics::request_failed(api, outcome.code.name());
        let reply_to = ReplyTo { api: frame.api as u8, correlation: frame.correlation };
        self.outbound.send(EncodedFrame::refusal(reply_to, outcome), None).await
    }

    fn welcome(&self, request: &HelloRequest) -> Outcome<HelloResponse> {
        if !(request.min_version..=request.max_version).contains(&PROTOCOL_VERSION) {
            let message = format!(
                "this broker speaks version {PROTOCOL_VERSION}, the client {} to {}; use a client of a version in between",
                request.min_version, request.max_version
            );
            return Err(ErrorOutcome::new(ErrorCode::UnsupportedVersion, message));
        }
        if let Some(meant) = request.cluster.filter(|meant| *meant != self.cluster.0) {
            let message = format!(
                "this broker belongs to cluster {}, not to {}; correct the address or the cluster id",
                self.cluster,
                ClusterId(meant)
            );
            return Err(ErrorOutcome::new(ErrorCode::ClusterMismatch, message));
        }
        let limits = self.broker.limits();
        Ok(HelloResponse {
            version: PROTOCOL_VERSION,
            cluster: self.cluster.0,
            node: self.broker.cluster().node(),
            max_frame_bytes: limits.max_frame_bytes,
            max_batch_bytes: limits.max_batch_bytes,
            max_record_bytes: limits.max_record_bytes,
        })
    }
}
