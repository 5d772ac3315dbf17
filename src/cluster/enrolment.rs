//! A broker's place in the metadata: what it does about it, by what it sees. A pure function.
//!
//! What holds:
//! - Whoever leads the metadata first founds the cluster, with the voters that the metadata log began with: none can have
//!   changed before.
//! - A broker registers itself at its start, and again if its addresses or its rack changed meanwhile.
//! - One that was removed, or whose registration another process took over, takes no part any more, for good.

use super::roster::KnownBroker;
use super::{Member, MetadataState, Refusal};

/// What this broker knows when it asks itself what to do.
pub struct Seen<'a> {
    /// The metadata, as far as it was followed.
    pub state: &'a MetadataState,
    /// Itself.
    pub me: &'a Member,
    /// As what it joined, if the state does not say yet.
    pub joined_as: Option<&'a KnownBroker>,
    /// Whether it leads the metadata, and knows all of it.
    pub leads: bool,
    /// Whether it is known to have registered in this run.
    pub registered: bool,
}

/// What is to be done about it.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing now.
    Nothing,
    /// Begin the cluster.
    Found,
    /// Have itself written down.
    Register,
    /// Take no part any more, for this reason.
    Leave(String),
}

impl Seen<'_> {
    /// What is to be done now.
    pub fn next(&self) -> Next {
        let id = self.me.id;
        match self.state.member(id) {
            Some((known, _)) if **known == *self.me => Next::Nothing,
            Some((known, _)) if known.directory != self.me.directory => {
                Next::Leave(Refusal::BrokerTaken(id).to_string())
            }
            Some((known, _)) if self.registered => Next::Leave(taken_over(id, &known.peer)),
            Some(_) => Next::Register,
            None if self.state.awaits(id) => Next::Register,
            None if self.state.is_founded() && id < self.state.next_broker() => {
                Next::Leave(Refusal::BrokerRemoved(id).to_string())
            }
            // The state does not reach to its joining yet.
            None => match self.joined_as {
                Some(known) if !is_reached_at(known, self.me) => Next::Register,
                None if self.leads && !self.state.is_founded() => Next::Found,
                _ => Next::Nothing,
            },
        }
    }
}

/// Why a broker that registered in this run takes no part any more, if another one that has followed the metadata at least
/// that far says this of it. The metadata itself may reach the other process alone: it goes to where the broker registered
/// last.
pub fn is_taken_over(me: &Member, as_known: &KnownBroker) -> Option<String> {
    (!is_reached_at(as_known, me)).then(|| taken_over(me.id, &as_known.peer))
}

fn taken_over(id: u64, by: &str) -> String {
    format!(
        "another process runs as broker {id}, at {by}, on a copy of this data directory; stop one of the two for good \
         and delete its copy"
    )
}

fn is_reached_at(known: &KnownBroker, me: &Member) -> bool {
    (&known.native, &known.peer, &known.http, &known.rack) == (&me.native, &me.peer, &me.http, &me.rack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Command;
    use crate::identity::DirectoryId;

    fn broker(id: u64) -> Member {
        let at = |port: u64| format!("127.0.0.1:{}", 7000 + 10 * id + port);
        let directory = DirectoryId([id as u8; 16]);
        Member { id, directory, native: at(0), peer: at(1), http: at(2), rack: None }
    }

    fn state(commands: &[Command]) -> MetadataState {
        let mut state = MetadataState::default();
        commands.iter().for_each(|command| state.apply(command).unwrap());
        state
    }

    fn found() -> Command {
        Command::FoundCluster { replicas: vec![1, 2, 3] }
    }

    fn seen<'a>(state: &'a MetadataState, me: &'a Member) -> Seen<'a> {
        Seen { state, me, joined_as: None, leads: false, registered: false }
    }

    #[test]
    fn the_first_leader_founds_and_the_founders_register() {
        let (blank, founded) = (state(&[]), state(&[found()]));
        assert_eq!(seen(&blank, &broker(2)).next(), Next::Nothing);
        assert_eq!(Seen { leads: true, ..seen(&blank, &broker(2)) }.next(), Next::Found);
        assert_eq!(seen(&founded, &broker(2)).next(), Next::Register);
        let registered = state(&[found(), Command::RegisterBroker(broker(2))]);
        assert_eq!(seen(&registered, &broker(2)).next(), Next::Nothing);
    }

    #[test]
    fn new_addresses_are_registered_once_and_those_of_a_copy_end_the_older_process() {
        let registered = state(&[found(), Command::RegisterBroker(broker(2))]);
        let moved = Member { peer: "elsewhere:1".into(), ..broker(2) };
        assert_eq!(seen(&registered, &moved).next(), Next::Register);
        let taken_over = Seen { registered: true, ..seen(&registered, &moved) };
        assert!(matches!(taken_over.next(), Next::Leave(why) if why.contains("127.0.0.1:7021")));
        // The older one may hear of it from others alone.
        assert_eq!(is_taken_over(&broker(2), &KnownBroker::from(&broker(2))), None);
        let told = is_taken_over(&broker(2), &KnownBroker::from(&moved)).unwrap();
        assert!(told.contains("elsewhere:1"), "{told}");
    }

    #[test]
    fn a_broker_that_is_unknown_waits_if_it_is_too_new_and_leaves_if_it_was_removed() {
        let founded = state(&[found()]);
        let four = broker(4);
        let joined_as = KnownBroker::from(&four);
        let waiting = Seen { joined_as: Some(&joined_as), ..seen(&founded, &four) };
        assert_eq!(waiting.next(), Next::Nothing);
        let moved = Member { peer: "elsewhere:1".into(), ..four.clone() };
        assert_eq!(Seen { me: &moved, ..waiting }.next(), Next::Register);
        let removed =
            state(&[found(), Command::RegisterBroker(four.clone()), Command::RemoveBroker { id: 4 }]);
        assert!(matches!(seen(&removed, &four).next(), Next::Leave(why) if why.contains("removed")));
    }

    #[test]
    fn another_directory_under_the_same_id_is_no_member() {
        let registered = state(&[found(), Command::RegisterBroker(broker(2))]);
        let emptied = Member { directory: DirectoryId([9; 16]), ..broker(2) };
        assert!(matches!(seen(&registered, &emptied).next(), Next::Leave(_)));
    }
}
