//! One file of `protocol/vectors`: comment lines, and the bytes of a frame in hex.

use std::fmt::{Debug, Write as _};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use lockstep_protocol::native::Push;
use lockstep_protocol::peer::{PeerDecoder, PeerMessage};
use lockstep_protocol::{
    EncodedFrame, ErrorOutcome, Frame, FrameDecoder, FrameError, Message, Outcome, ReplyTo, Request, Wire,
};

const CORRELATION: u32 = 7;
const LIMIT: usize = 1 << 20;
const BYTES_PER_LINE: usize = 16;

/// The header's fields: their names, and their lengths in bytes.
type Header = (&'static str, &'static [usize]);
const NATIVE: Header =
    ("header: length, crc, kind, api, version, correlation, meta_length", &[4, 4, 1, 1, 2, 4, 4]);
const PEER: Header = ("header: length, crc, kind, zero, version, meta_length", &[4, 4, 1, 1, 2, 4]);

/// A frame, and the file that holds its bytes. It has been read back when it exists.
pub(crate) struct Vector {
    name: &'static str,
    comment: &'static str,
    header: Header,
    frame: EncodedFrame,
}

impl Vector {
    pub(crate) fn request<M>(name: &'static str, comment: &'static str, message: M, payload: &[Bytes]) -> Self
    where
        M: Message + PartialEq + Debug,
    {
        let frame = EncodedFrame::request(CORRELATION, &message, payload.to_vec());
        Self::read_back(name, comment, frame, message)
    }

    pub(crate) fn response<R: Request>(
        name: &'static str,
        comment: &'static str,
        outcome: Outcome<R::Response>,
        payload: &[Bytes],
    ) -> Self
    where
        R::Response: PartialEq + Debug,
    {
        let frame = EncodedFrame::response::<R>(CORRELATION, &outcome, payload.to_vec());
        Self::read_back(name, comment, frame, outcome)
    }

    pub(crate) fn push(
        name: &'static str,
        comment: &'static str,
        push: Outcome<Push>,
        payload: &[Bytes],
    ) -> Self {
        let frame = EncodedFrame::push(CORRELATION, &push, payload.to_vec());
        Self::read_back(name, comment, frame, push)
    }

    /// A refusal of an api that does not exist: a client need not be able to read it, but sees whose it is.
    pub(crate) fn refusal(
        name: &'static str,
        comment: &'static str,
        reply_to: ReplyTo,
        error: ErrorOutcome,
    ) -> Self {
        let frame = EncodedFrame::refusal(reply_to, &error);
        assert_eq!(decode(&frame), Err(FrameError::UnknownApi { reply_to }));
        Self { name, comment, header: NATIVE, frame }
    }

    pub(crate) fn peer(name: &'static str, comment: &'static str, message: PeerMessage) -> Self {
        let frame = message.encode();
        let decoded = PeerDecoder::new(LIMIT).decode(&mut BytesMut::from(&frame.to_bytes()[..]));
        assert_eq!(decoded, Ok(Some(message)), "{name}");
        Self { name, comment, header: PEER, frame }
    }

    fn read_back<T: Wire + PartialEq + Debug>(
        name: &'static str,
        comment: &'static str,
        frame: EncodedFrame,
        message: T,
    ) -> Self {
        let decoded = decode(&frame).unwrap().unwrap();
        assert_eq!(T::decode(&decoded.meta), Ok(message), "{name}");
        assert_eq!(decoded.payload, frame.payload.concat(), "{name}");
        Self { name, comment, header: NATIVE, frame }
    }

    pub(crate) fn file_name(&self) -> String {
        format!("{}.hex", self.name)
    }

    /// The file must hold exactly these bytes; or is written, if that was asked for.
    pub(crate) fn check(&self) {
        let path = directory().join(self.file_name());
        let text = self.text();
        if std::env::var_os("LOCKSTEP_WRITE_VECTORS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let stored =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(bytes_of(&stored), self.frame.to_bytes(), "{}", self.name);
        assert_eq!(stored, text, "{}", self.name);
    }

    fn text(&self) -> String {
        let (fields, lengths) = self.header;
        let mut text = format!("# {}\n# {fields}\n", self.comment);
        let mut rest = &self.frame.head[..];
        let header: Vec<String> = lengths.iter().map(|length| hex(take(&mut rest, *length))).collect();
        let _infallible = writeln!(text, "{}", header.join(" "));
        write_section("message", rest, &mut text);
        write_section("payload", &self.frame.payload.concat(), &mut text);
        text
    }
}

fn decode(frame: &EncodedFrame) -> Result<Option<Frame>, FrameError> {
    FrameDecoder::new(LIMIT).decode(&mut BytesMut::from(&frame.to_bytes()[..]))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}

fn write_section(title: &str, bytes: &[u8], text: &mut String) {
    if bytes.is_empty() {
        return;
    }
    let _infallible = writeln!(text, "# {title}");
    for line in bytes.chunks(BYTES_PER_LINE) {
        let _infallible = writeln!(text, "{}", hex(line));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(text: &str) -> Vec<u8> {
    let digits: String =
        text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// The names of all vector files, sorted.
pub(crate) fn files() -> Vec<String> {
    let entries = std::fs::read_dir(directory()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
