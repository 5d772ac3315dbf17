//! A conversation with one broker, byte by byte: a question can lie in its socket while its process stands still.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use lockstep_protocol::native::{HelloRequest, TailRequest};
use lockstep_protocol::{EncodedFrame, FrameDecoder, Outcome, PROTOCOL_VERSION, Request, Wire};

use crate::load::TOPIC;

/// Time to connect, and for each answer.
const TIME_MAX: Duration = Duration::from_secs(15);
/// No answer here is longer.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// An open conversation.
pub struct Conversation {
    stream: TcpStream,
    decoder: FrameDecoder,
    buffer: BytesMut,
}

impl Conversation {
    /// Connects and exchanges greetings; `None` if the broker does not.
    #[must_use]
    pub fn open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, TIME_MAX).ok()?;
        stream.set_read_timeout(Some(TIME_MAX)).ok()?;
        let decoder = FrameDecoder::new(FRAME_BYTES_MAX);
        let mut conversation = Self { stream, decoder, buffer: BytesMut::new() };
        let hello = HelloRequest {
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            cluster: None,
            client: "lockstep-rig".to_owned(),
        };
        conversation.ask(&hello)?;
        conversation.answer::<HelloRequest>()?.ok()?;
        Some(conversation)
    }

    /// Asks for the confirmed end of a partition; `None` if the question does not leave.
    #[must_use]
    pub fn ask_for_tail(&mut self, partition: u32) -> Option<()> {
        self.ask(&TailRequest { topic: TOPIC.to_owned(), partition, linearizable: true })
    }

    /// The end it confirms; `Some(None)` if it refuses, `None` if no answer comes.
    #[must_use]
    pub fn tail(&mut self) -> Option<Option<u64>> {
        Some(self.answer::<TailRequest>()?.ok().map(|tail| tail.high_watermark))
    }

    fn ask<R: Request>(&mut self, request: &R) -> Option<()> {
        self.stream.write_all(&EncodedFrame::request(1, request, Vec::new()).to_bytes()).ok()
    }

    fn answer<R: Request>(&mut self) -> Option<Outcome<R::Response>> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).ok()? {
                return Outcome::<R::Response>::decode(&frame.meta).ok();
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes).ok()? {
                0 => return None,
                count => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }
}
