//! One connection to one broker, shared by everything the client does there.
//!
//! What holds:
//!
//! - Requests leave in the order they were submitted, and nobody waits for another's answer: answers are told
//!   apart by their correlation.
//! - A connection that failed stays failed: all that wait on it learn it at once, and the pool makes a new one.
//! - A correlation is not used again while anyone waits under it.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lockstep_protocol::native::{HelloRequest, HelloResponse};
use lockstep_protocol::{
    EncodedFrame, ErrorCode, ErrorOutcome, Frame, FrameDecoder, FrameKind, Message, Outcome,
    PROTOCOL_VERSION, Request, Wire,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::options::ClientOptions;
use crate::retry::Failure;
use crate::slices::Slices;

/// Longest frame a broker may send: the format's longest batch and room for a message.
const FRAME_BYTES_MAX: usize = 257 << 20;
/// Least room made before each read.
const READ_BYTES_MIN: usize = 64 << 10;
/// Frames that may wait for the socket; their batches are bounded by the producers' own limits.
const OUTBOUND_FRAMES_MAX: usize = 256;
/// Frames gathered into one vectored write.
const FRAMES_PER_WRITE: usize = 32;

/// An open connection whose handshake succeeded.
pub(crate) struct Connection {
    hello: HelloResponse,
    outbound: mpsc::Sender<EncodedFrame>,
    waiters: Arc<Waiters>,
    tasks: [AbortHandle; 2],
}

/// Who waits for what.
struct Waiters {
    state: Mutex<WaitersState>,
}

struct WaitersState {
    /// `None` once the connection has failed.
    open: Option<HashMap<u32, Waiter>>,
    next_correlation: u32,
    last_frame_at: Instant,
}

enum Waiter {
    Answer(oneshot::Sender<Frame>),
    Subscription { opened: Option<oneshot::Sender<Frame>>, pushes: mpsc::UnboundedSender<Frame> },
}

/// An answer on its way. Dropping it gives up waiting.
pub(crate) struct Answer<R> {
    receiver: oneshot::Receiver<Frame>,
    registration: Registration,
    submitted_at: Instant,
    request: PhantomData<fn() -> R>,
}

/// Removes its waiter when nobody waits any more.
pub(crate) struct Registration {
    waiters: Arc<Waiters>,
    correlation: u32,
}

/// The pushes of one subscription.
pub(crate) struct Pushes {
    pub(crate) receiver: mpsc::UnboundedReceiver<Frame>,
    registration: Registration,
}

impl Pushes {
    /// What the broker knows the subscription by.
    pub(crate) fn correlation(&self) -> u32 {
        self.registration.correlation
    }
}

impl Connection {
    /// Connects over TCP and exchanges greetings.
    pub(crate) async fn open(
        address: &str,
        options: &ClientOptions,
        cluster: Option<[u8; 16]>,
    ) -> Result<Self, Failure> {
        let connect = async {
            let stream = TcpStream::connect(address).await.map_err(|_| Failure::Unreachable)?;
            stream.set_nodelay(true).map_err(|_| Failure::Unreachable)?;
            let (read, write) = stream.into_split();
            Self::handshake(read, write, options, cluster).await
        };
        tokio::time::timeout(options.connect_timeout, connect).await.unwrap_or(Err(Failure::Unreachable))
    }

    /// Exchanges greetings over any stream.
    pub(crate) async fn handshake(
        read: impl AsyncRead + Unpin + Send + 'static,
        write: impl AsyncWrite + Unpin + Send + 'static,
        options: &ClientOptions,
        cluster: Option<[u8; 16]>,
    ) -> Result<Self, Failure> {
        let state =
            WaitersState { open: Some(HashMap::new()), next_correlation: 1, last_frame_at: Instant::now() };
        let waiters = Arc::new(Waiters { state: Mutex::new(state) });
        let (outbound, frames) = mpsc::channel(OUTBOUND_FRAMES_MAX);
        let reader = tokio::spawn(read_frames(read, Arc::clone(&waiters)));
        let writer = tokio::spawn(write_frames(write, frames, Arc::clone(&waiters)));
        let hello = HelloResponse {
            version: PROTOCOL_VERSION,
            cluster: [0; 16],
            node: 0,
            max_frame_bytes: 0,
            max_batch_bytes: 0,
            max_record_bytes: 0,
        };
        let tasks = [reader.abort_handle(), writer.abort_handle()];
        let mut connection = Self { hello, outbound, waiters, tasks };
        let request = HelloRequest {
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            cluster,
            client: options.client_name.clone(),
        };
        connection.hello = connection.call(&request, options.connect_timeout).await?;
        Ok(connection)
    }

    /// What the broker said of itself.
    pub(crate) fn hello(&self) -> &HelloResponse {
        &self.hello
    }

    /// Whether the connection has failed.
    pub(crate) fn is_closed(&self) -> bool {
        self.waiters.lock().open.is_none()
    }

    /// Sends a request and waits for its answer, whose payload is dropped.
    pub(crate) async fn call<R: Request>(
        &self,
        request: &R,
        limit: Duration,
    ) -> Result<R::Response, Failure> {
        Ok(self.call_with_payload(request, limit).await?.0)
    }

    /// Sends a request and waits for its answer and payload.
    pub(crate) async fn call_with_payload<R: Request>(
        &self,
        request: &R,
        limit: Duration,
    ) -> Result<(R::Response, Bytes), Failure> {
        self.submit(request, Vec::new()).await?.wait(limit).await
    }

    /// Queues a request for sending, in order with all that was submitted before.
    pub(crate) async fn submit<R: Request>(
        &self,
        request: &R,
        payload: Vec<Bytes>,
    ) -> Result<Answer<R>, Failure> {
        let (sender, receiver) = oneshot::channel();
        let registration = self.register(Waiter::Answer(sender))?;
        let answer = Answer { receiver, registration, submitted_at: Instant::now(), request: PhantomData };
        self.send(EncodedFrame::request(answer.registration.correlation, request, payload)).await?;
        Ok(answer)
    }

    /// Sends a request that opens a subscription: its answer, and the pushes that follow it.
    pub(crate) async fn subscribe<R: Request>(
        &self,
        request: &R,
        limit: Duration,
    ) -> Result<(R::Response, Pushes), Failure> {
        let (sender, opened) = oneshot::channel();
        let (pushes, receiver) = mpsc::unbounded_channel();
        let registration = self.register(Waiter::Subscription { opened: Some(sender), pushes })?;
        self.send(EncodedFrame::request(registration.correlation, request, Vec::new())).await?;
        let frame = match tokio::time::timeout(limit, opened).await {
            Ok(frame) => frame.map_err(|_| Failure::ConnectionLost)?,
            Err(_) => return Err(Failure::TimedOut),
        };
        let response = decode_answer::<R>(&frame)?;
        Ok((response, Pushes { receiver, registration }))
    }

    /// Sends a message that has no answer.
    pub(crate) async fn tell<M: Message>(&self, message: &M) -> Result<(), Failure> {
        self.send(EncodedFrame::request(0, message, Vec::new())).await
    }

    /// Sends a message whose answer nobody waits for, unless too much is waiting to be sent.
    pub(crate) fn tell_now<M: Message>(&self, message: &M) {
        // A full queue or a lost connection: then the broker ends the matter by itself.
        let _ = self.outbound.try_send(EncodedFrame::request(0, message, Vec::new()));
    }

    fn register(&self, waiter: Waiter) -> Result<Registration, Failure> {
        let correlation = self.waiters.lock().insert(waiter).ok_or(Failure::Unreachable)?;
        Ok(Registration { waiters: Arc::clone(&self.waiters), correlation })
    }

    async fn send(&self, frame: EncodedFrame) -> Result<(), Failure> {
        let limit = self.hello.max_frame_bytes;
        if limit != 0 && frame.total_bytes() > limit as usize {
            let message = format!("the request has {} bytes, the broker takes {limit}", frame.total_bytes());
            return Err(Failure::Refused(ErrorOutcome::new(ErrorCode::FrameTooLarge, message)));
        }
        self.outbound.send(frame).await.map_err(|_| Failure::ConnectionLost)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.waiters.fail();
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl<R: Request> Answer<R> {
    /// Waits at most `limit` for the answer. A broker that sent nothing at all meanwhile counts as gone.
    pub(crate) async fn wait(self, limit: Duration) -> Result<(R::Response, Bytes), Failure> {
        let frame = match tokio::time::timeout(limit, self.receiver).await {
            Ok(frame) => frame.map_err(|_| Failure::ConnectionLost)?,
            Err(_) => {
                self.registration.waiters.fail_if_silent_since(self.submitted_at);
                return Err(Failure::TimedOut);
            }
        };
        Ok((decode_answer::<R>(&frame)?, frame.payload))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(open) = &mut self.waiters.lock().open {
            open.remove(&self.correlation);
        }
    }
}

fn decode_answer<R: Request>(frame: &Frame) -> Result<R::Response, Failure> {
    match Outcome::<R::Response>::decode(&frame.meta) {
        Ok(outcome) => outcome.map_err(Failure::Refused),
        Err(error) => Err(Failure::Garbled(format!("the answer to {}: {error}", R::API.name()))),
    }
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, WaitersState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops every waiter, which tells each that the connection is lost.
    fn fail(&self) {
        let dropped = self.lock().open.take();
        drop(dropped);
    }

    fn fail_if_silent_since(&self, since: Instant) {
        let mut state = self.lock();
        let dropped = if state.last_frame_at < since { state.open.take() } else { None };
        drop(state);
        drop(dropped);
    }

    /// Hands a frame to whoever waits for it; one that nobody waits for is dropped.
    fn deliver(&self, frame: Frame) {
        let mut state = self.lock();
        state.last_frame_at = Instant::now();
        let Some(open) = &mut state.open else { return };
        match (frame.kind, open.get_mut(&frame.correlation)) {
            (FrameKind::Push, Some(Waiter::Subscription { pushes, .. })) => {
                // A receiver that is gone removes its registration by itself.
                let _ = pushes.send(frame);
            }
            (FrameKind::Response, Some(Waiter::Subscription { opened, .. })) => {
                if let Some(opened) = opened.take() {
                    let _ = opened.send(frame);
                }
            }
            (FrameKind::Response, Some(Waiter::Answer(_))) => {
                if let Some(Waiter::Answer(sender)) = open.remove(&frame.correlation) {
                    let _ = sender.send(frame);
                }
            }
            _ => {}
        }
    }
}

impl WaitersState {
    /// Puts a waiter under an unused correlation; `None` if the connection has failed.
    fn insert(&mut self, waiter: Waiter) -> Option<u32> {
        let open = self.open.as_mut()?;
        let mut correlation = self.next_correlation;
        while correlation == 0 || open.contains_key(&correlation) {
            correlation = correlation.wrapping_add(1);
        }
        self.next_correlation = correlation.wrapping_add(1);
        open.insert(correlation, waiter);
        Some(correlation)
    }
}

/// Cuts frames out of the stream until it ends or makes no sense.
async fn read_frames(mut stream: impl AsyncRead + Unpin, waiters: Arc<Waiters>) {
    let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
    let mut buffer = BytesMut::new();
    loop {
        match decoder.decode(&mut buffer) {
            Ok(Some(frame)) => waiters.deliver(frame),
            Ok(None) => {
                // Doubling: memory grows with the bytes that came, not with the length that was declared.
                buffer.reserve(buffer.len().max(READ_BYTES_MIN));
                match stream.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            Err(_) => break,
        }
    }
    waiters.fail();
}

/// Writes frames as they come, many at once when many wait.
async fn write_frames(
    mut stream: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<EncodedFrame>,
    waiters: Arc<Waiters>,
) {
    let mut gathered = Vec::with_capacity(FRAMES_PER_WRITE);
    while frames.recv_many(&mut gathered, FRAMES_PER_WRITE).await > 0 {
        let mut slices = Slices::default();
        for frame in gathered.drain(..) {
            slices.push(frame.head);
            frame.payload.into_iter().for_each(|slice| slices.push(slice));
        }
        if stream.write_all_buf(&mut slices).await.is_err() || stream.flush().await.is_err() {
            break;
        }
    }
    waiters.fail();
}
