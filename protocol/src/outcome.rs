//! How an answer says that it is one, or why not.
//!
//! ```text
//! 0  u16 code       0: success, and the answer's fields follow at once; else:
//! 2  string message what happened to this request, for people
//! …  optional hint  where the leader is: u64 node, string address, u64 term
//! …  u64 detail     the number the code's meaning speaks of, or 0
//! ```
//!
//! In Rust an answer is a [`Result`]: there are no fields to misread when it failed.

use bytes::{BufMut, BytesMut};
use nom::number::complete::le_u16;

use crate::error_code::ErrorCode;
use crate::wire::{DecodeError, Parsed, Wire, refuse, wire_fields};

/// An answer, or why there is none. On the wire: see the module's drawing.
pub type Outcome<T> = Result<T, ErrorOutcome>;

/// Why a request, or one item of it, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .code.name())]
pub struct ErrorOutcome {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What happened to this request, for people; never to be parsed.
    pub message: String,
    /// Where to send the request instead, if that is known.
    pub hint: Option<LeaderHint>,
    /// The number the code's meaning speaks of (log start, next LSN, epoch), or 0.
    pub detail: u64,
}

/// Who leads a partition, as far as the answering broker knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader's node id.
    pub node: u64,
    /// Its native address, `host:port`.
    pub address: String,
    /// The term it leads in; of two hints the one with the greater term is newer.
    pub term: u64,
}

wire_fields!(LeaderHint { node, address, term });

impl ErrorOutcome {
    /// A refusal without hint or detail.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, detail: 0 }
    }

    /// Adds where the leader is.
    #[must_use]
    pub fn with_hint(mut self, hint: LeaderHint) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Adds the number the code's meaning speaks of.
    #[must_use]
    pub fn with_detail(mut self, detail: u64) -> Self {
        self.detail = detail;
        self
    }
}

/// A refusal's code in terms of its meaning and fix.
impl From<ErrorCode> for ErrorOutcome {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, format!("{} {}", code.meaning(), code.fix()))
    }
}

/// Bytes of the success code.
const CODE_BYTES: usize = 2;

impl Wire for ErrorOutcome {
    const MIN_BYTES: usize =
        CODE_BYTES + String::MIN_BYTES + Option::<LeaderHint>::MIN_BYTES + u64::MIN_BYTES;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u16_le(self.code as u16);
        self.message.encode(out);
        self.hint.encode(out);
        self.detail.encode(out);
    }

    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let (input, number) = le_u16(input)?;
        if number == 0 {
            return refuse(DecodeError::InvalidTag { what: "error code", value: 0 });
        }
        let (input, message) = String::parse(input)?;
        let (input, hint) = Option::parse(input)?;
        let (input, detail) = u64::parse(input)?;
        Ok((input, Self { code: ErrorCode::from_number(number), message, hint, detail }))
    }
}

impl<T: Wire> Wire for Outcome<T> {
    const MIN_BYTES: usize = {
        let success = CODE_BYTES + T::MIN_BYTES;
        if success < ErrorOutcome::MIN_BYTES { success } else { ErrorOutcome::MIN_BYTES }
    };

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Ok(answer) => {
                out.put_u16_le(0);
                answer.encode(out);
            }
            Err(error) => error.encode(out),
        }
    }

    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let (rest, number) = le_u16(input)?;
        if number == 0 {
            let (rest, answer) = T::parse(rest)?;
            return Ok((rest, Ok(answer)));
        }
        let (rest, error) = ErrorOutcome::parse(input)?;
        Ok((rest, Err(error)))
    }
}
