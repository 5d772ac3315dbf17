//! The layout of each structure as `docs/wire-protocol.md` draws it, made from the code; for tests.

use crate::outcome::ErrorOutcome;

/// A type with a name in the documentation.
pub(crate) trait Describe {
    fn describe() -> String;
}

/// A structure that the documentation draws.
pub(crate) trait Draw: Describe {
    /// The fields in wire order: name and type.
    fn fields() -> Vec<(&'static str, String)>;

    fn drawing() -> String {
        let fields = Self::fields();
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut drawing = Self::describe();
        for (name, kind) in &fields {
            drawing.push_str(&format!("\n  {name:<width$}  {kind}"));
        }
        if fields.is_empty() {
            drawing.push_str("\n  (no fields)");
        }
        drawing
    }
}

/// The type of a field that is named by how it is reached.
pub(crate) fn describe_field<S, T: Describe>(_: fn(&S) -> &T) -> String {
    T::describe()
}

/// Draws a structure by its fields.
macro_rules! draw_fields {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::drawing::Describe for $name {
            fn describe() -> String {
                stringify!($name).into()
            }
        }

        impl $crate::drawing::Draw for $name {
            fn fields() -> Vec<(&'static str, String)> {
                vec![$((
                    stringify!($field),
                    $crate::drawing::describe_field(|value: &Self| &value.$field),
                )),*]
            }
        }
    };
}
pub(crate) use draw_fields;

macro_rules! describe {
    ($($kind:ty => $name:literal,)+) => {$(
        impl Describe for $kind {
            fn describe() -> String {
                $name.into()
            }
        }
    )+};
}

describe! {
    u8 => "u8",
    u16 => "u16",
    u32 => "u32",
    u64 => "u64",
    i16 => "i16",
    i64 => "i64",
    bool => "bool",
    [u8; 16] => "16 bytes",
    String => "string",
    crate::native::Durability => "u8",
}

impl<T: Describe> Describe for Option<T> {
    fn describe() -> String {
        format!("optional {}", T::describe())
    }
}

impl<T: Describe> Describe for Vec<T> {
    fn describe() -> String {
        format!("list of {}", T::describe())
    }
}

impl<T: Describe> Describe for Result<T, ErrorOutcome> {
    fn describe() -> String {
        format!("outcome of {}", T::describe())
    }
}

mod tests {
    use super::Draw;
    use crate::native::*;
    use crate::outcome::LeaderHint;
    use crate::peer::{PeerHello, PeerWelcome};

    const DOCUMENT: &str = include_str!("../../docs/wire-protocol.md");

    macro_rules! assert_drawn {
        ($($name:ty,)+) => {$({
            let drawing = <$name>::drawing();
            assert!(DOCUMENT.contains(&format!("\n{drawing}\n")), "docs/wire-protocol.md lacks:\n{drawing}");
        })+};
    }

    #[test]
    fn the_documentation_draws_every_structure_as_it_is_encoded() {
        assert_drawn! {
            LeaderHint, HelloRequest, HelloResponse, MetadataRequest, MetadataResponse, NodeInfo, TopicMetadata,
            PartitionMetadata, TopicConfig, CreateTopicRequest, CreateTopicResponse, DeleteTopicRequest,
            DeleteTopicResponse, DescribeTopicRequest, DescribeTopicResponse, PartitionStatus, ListTopicsRequest,
            ListTopicsResponse, TopicSummary, ProduceRequest, ProduceItem, ProduceResponse, Produced, FetchRequest,
            FetchItem, FetchResponse, Fetched, SubscribeRequest, SubscribeResponse, Push, Credit,
            UnsubscribeRequest, UnsubscribeResponse, TailRequest, TailResponse, LsnForTimeRequest,
            LsnForTimeResponse, TrimRequest, TrimResponse, FenceRequest, FenceResponse, InitProducerRequest,
            InitProducerResponse, AlterTopicRequest, AlterTopicResponse, PositionCommit, CommitPositionRequest,
            CommitPositionResponse, ListPositionsRequest, ListPositionsResponse, Position,
            DeletePositionsRequest, PositionSource, DeletePositionsResponse, JoinRequest, JoinResponse,
            ListBrokersRequest, ListBrokersResponse, BrokerInfo, RemoveBrokerRequest, RemoveBrokerResponse,
            DrainBrokerRequest, DrainBrokerResponse, MovePartitionRequest, MovePartitionResponse, RebalanceRequest,
            RebalanceResponse, BrokerShare, PlannedMove, CancelMovesRequest, TopicPartition, CancelMovesResponse,
            PeerHello, PeerWelcome,
        }
    }

    #[test]
    fn the_documentation_numbers_every_api() {
        for api in Api::ALL {
            let row = format!("\n| {} | {} |", *api as u8, api.name());
            assert!(DOCUMENT.contains(&row), "docs/wire-protocol.md lacks: {row}");
        }
    }
}
