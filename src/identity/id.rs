//! Random 128-bit ids, written as 32 hexadecimal digits.

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not an id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an id; write 32 hexadecimal digits")]
pub struct IdError(String);

/// Names a cluster; clients and peers of another one are turned away.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId(pub [u8; 16]);

/// Names one data directory for its whole life; a node with an emptied disk gets another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DirectoryId(pub [u8; 16]);

fn random() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn parse(text: &str) -> Result<[u8; 16], IdError> {
    let refuse = || IdError(text.to_owned());
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return Err(refuse());
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| (digit as char).to_digit(16).ok_or_else(refuse);
        *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
    }
    Ok(bytes)
}

macro_rules! id_text {
    ($name:ident) => {
        impl $name {
            /// A fresh id from the operating system's random source.
            ///
            /// # Errors
            /// The random source cannot be read.
            pub fn random() -> std::io::Result<$name> {
                random().map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, out)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<$name, IdError> {
                parse(text).map($name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<$name, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

id_text!(ClusterId);
id_text!(DirectoryId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written() {
        let id = ClusterId::random().unwrap();
        assert_eq!(id.to_string().parse::<ClusterId>().unwrap(), id);
    }

    #[test]
    fn a_short_or_foreign_text_is_refused() {
        let multibyte = "é".repeat(16);
        for text in ["", "12", "zz112233445566778899aabbccddeeff", multibyte.as_str()] {
            assert!(text.parse::<ClusterId>().is_err(), "{text:?}");
        }
    }
}
