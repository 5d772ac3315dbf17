//! How records look on standard output.

use std::fmt::Write as _;

use bytes::Bytes;
use lockstep_client::ConsumedRecord;
use serde_json::{Map, Value, json};

/// How a record is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// The value and a line end.
    Value,
    /// The value alone.
    Raw,
    /// One JSON object per line.
    Json,
    /// Parts in turn.
    Template(Vec<Part>),
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// As it stands.
    Text(Vec<u8>),
    Topic,
    Partition,
    Lsn,
    Time,
    Key,
    Value,
    Headers,
}

impl Format {
    /// From the command line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "value" => Ok(Self::Value),
            "raw" => Ok(Self::Raw),
            "json" => Ok(Self::Json),
            template if template.contains(['%', '\\']) => parse_template(template).map(Self::Template),
            other => {
                Err(format!("{other:?} is no format: use value, raw, json, or a template such as '%l %v\\n'"))
            }
        }
    }

    /// Appends a record to `out`.
    pub(crate) fn write(&self, topic: &str, record: &ConsumedRecord, out: &mut Vec<u8>) {
        match self {
            Self::Value => {
                out.extend_from_slice(or_empty(&record.value));
                out.push(b'\n');
            }
            Self::Raw => out.extend_from_slice(or_empty(&record.value)),
            Self::Json => {
                out.extend_from_slice(to_json(topic, record).to_string().as_bytes());
                out.push(b'\n');
            }
            Self::Template(parts) => parts.iter().for_each(|part| part.write(topic, record, out)),
        }
    }
}

impl Part {
    fn write(&self, topic: &str, record: &ConsumedRecord, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text),
            Self::Topic => out.extend_from_slice(topic.as_bytes()),
            Self::Partition => out.extend_from_slice(record.partition.to_string().as_bytes()),
            Self::Lsn => out.extend_from_slice(record.lsn.to_string().as_bytes()),
            Self::Time => out.extend_from_slice(record.timestamp_ms.to_string().as_bytes()),
            Self::Key => out.extend_from_slice(or_empty(&record.key)),
            Self::Value => out.extend_from_slice(or_empty(&record.value)),
            Self::Headers => {
                for (number, header) in record.headers.iter().enumerate() {
                    if number > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(header.key.as_bytes());
                    out.push(b'=');
                    out.extend_from_slice(or_empty(&header.value));
                }
            }
        }
    }
}

fn or_empty(bytes: &Option<Bytes>) -> &[u8] {
    bytes.as_deref().unwrap_or_default()
}

fn parse_template(template: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut text = Vec::new();
    let mut characters = template.chars();
    while let Some(character) = characters.next() {
        let part = match character {
            '%' => match characters.next() {
                Some('%') => {
                    text.push(b'%');
                    continue;
                }
                Some('T') => Part::Topic,
                Some('p') => Part::Partition,
                Some('l') => Part::Lsn,
                Some('t') => Part::Time,
                Some('k') => Part::Key,
                Some('v') => Part::Value,
                Some('h') => Part::Headers,
                other => return Err(unknown('%', other, "%T %p %l %t %k %v %h %%")),
            },
            '\\' => {
                text.push(match characters.next() {
                    Some('n') => b'\n',
                    Some('t') => b'\t',
                    Some('r') => b'\r',
                    Some('0') => 0,
                    Some('\\') => b'\\',
                    other => return Err(unknown('\\', other, "\\n \\t \\r \\0 \\\\")),
                });
                continue;
            }
            other => {
                text.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        parts.push(part);
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

fn unknown(sign: char, found: Option<char>, known: &str) -> String {
    let found = found.map_or_else(|| sign.to_string(), |found| format!("{sign}{found}"));
    format!("{found:?} means nothing in a template: use {known}")
}

fn to_json(topic: &str, record: &ConsumedRecord) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), json!(topic));
    object.insert("partition".to_owned(), json!(record.partition));
    object.insert("lsn".to_owned(), json!(record.lsn));
    object.insert("timestamp_ms".to_owned(), json!(record.timestamp_ms));
    insert(&mut object, "key", &record.key);
    insert(&mut object, "value", &record.value);
    if !record.headers.is_empty() {
        let headers = record.headers.iter().map(|header| {
            let mut object = Map::new();
            object.insert("key".to_owned(), json!(header.key));
            insert(&mut object, "value", &header.value);
            Value::Object(object)
        });
        object.insert("headers".to_owned(), headers.collect());
    }
    Value::Object(object)
}

/// Text as text; bytes that are no UTF-8 as hexadecimal, under a name that says so.
fn insert(object: &mut Map<String, Value>, name: &str, bytes: &Option<Bytes>) {
    let (name, value) = match bytes.as_deref().map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (name.to_owned(), Value::Null),
        Some((_, Ok(text))) => (name.to_owned(), json!(text)),
        Some((bytes, Err(_))) => {
            let digits = bytes.iter().fold(String::new(), |mut digits, byte| {
                // Writing to a string cannot fail.
                let _ = write!(digits, "{byte:02x}");
                digits
            });
            (format!("{name}_hex"), json!(digits))
        }
    };
    object.insert(name, value);
}

#[cfg(test)]
mod tests {
    use lockstep_client::RecordHeader;

    use super::*;

    fn record() -> ConsumedRecord {
        ConsumedRecord {
            partition: 2,
            lsn: 7,
            timestamp_ms: 99,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v\xff")),
            headers: vec![RecordHeader { key: "h".to_owned(), value: None }],
        }
    }

    fn written(format: &str) -> Vec<u8> {
        let mut out = Vec::new();
        Format::parse(format).unwrap().write("t", &record(), &mut out);
        out
    }

    #[test]
    fn each_format_writes_the_record_its_way() {
        assert_eq!(written("value"), b"v\xff\n");
        assert_eq!(written("raw"), b"v\xff");
        assert_eq!(written(r"%T/%p %l %t %k=%v [%h] 100%%\t\n"), b"t/2 7 99 k=v\xff [h=] 100%\t\n");
        assert_eq!(written("%l→%k"), "7→k".as_bytes());
    }

    #[test]
    fn json_keeps_bytes_that_are_no_text() {
        let json: Value = serde_json::from_slice(&written("json")).unwrap();
        assert_eq!(json["lsn"], 7);
        assert_eq!(json["key"], "k");
        assert_eq!(json["value_hex"], "76ff");
        assert_eq!(json["headers"][0], json!({ "key": "h", "value": null }));
    }

    #[test]
    fn a_template_with_an_unknown_sign_is_refused_by_it() {
        for (template, sign) in [("%x", "%x"), ("%", "%"), (r"\q", r"\\q"), ("plain", "plain")] {
            let refused = Format::parse(template).unwrap_err();
            assert!(refused.contains(sign), "{template}: {refused}");
        }
    }
}
