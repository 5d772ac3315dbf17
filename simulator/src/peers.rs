//! What nodes say to each other, as it arrives, and connections between them that end.

use bytes::{Bytes, BytesMut};
use lockstep::net::peer::{Letter, to_frames};
use lockstep::replica::standing_without_replica;
use lockstep::shard::Input as ShardInput;
use lockstep_protocol::peer::{PeerDecoder, PeerMessage, RaftMessage, RepairMessage};

use crate::node::Mail;
use crate::queue::Event;
use crate::replica::Input;
use crate::server::FRAME_BYTES_MAX;
use crate::world::{World, directory};

impl World {
    pub(crate) fn peer_frame(&mut self, from: u64, to: u64, connection: u64, frame: &Bytes) {
        if !self.network.arrives(from, to, connection) {
            return;
        }
        let Some(process) = self.nodes.get_mut(&to).and_then(|node| node.process.as_mut()) else { return };
        let decoded = PeerDecoder::new(FRAME_BYTES_MAX).decode(&mut BytesMut::from(&frame[..]));
        let mut arrived: Vec<(u64, Input)> = Vec::new();
        let of_sender = |message: &RaftMessage| message.from == from;
        match decoded {
            Ok(Some(PeerMessage::Raft { shard, messages })) => {
                let messages = messages.into_iter().filter(of_sender);
                arrived.extend(messages.map(|message| (shard, ShardInput::Peer(message).into())));
            }
            Ok(Some(PeerMessage::Heartbeats(heartbeats))) => {
                for heartbeat in heartbeats {
                    let (shard, message) = (heartbeat.shard, heartbeat.to_message());
                    if of_sender(&message) {
                        arrived.push((shard, ShardInput::Peer(message).into()));
                    }
                }
            }
            Ok(Some(PeerMessage::Repair { shard, number, message: RepairMessage::Ask }))
                if process.broker.as_ref().is_some_and(|broker| !broker.has(shard)) =>
            {
                return self.tell_former(to, from, shard, number);
            }
            Ok(Some(PeerMessage::Repair { shard, number, message })) => {
                arrived.push((shard, Input::Repair { from, number, message }));
            }
            // Damage: the connection ends, and both sides make another.
            Ok(_) | Err(_) => {
                self.stats.fault("damage-refused-by-frame");
                return self.disconnect(from, to);
            }
        }
        for (shard, input) in arrived {
            process.inbox.push_back(Mail::One(shard, Box::new(input)));
        }
        self.wake_worker(to);
    }

    /// A broker that holds no replica of a shard says what its former ones have promised.
    fn tell_former(&mut self, id: u64, to: u64, shard: u64, number: u64) {
        let Ok(standing) = standing_without_replica(&*self.nodes[&id].disk, &directory(shard)) else {
            return;
        };
        let message = RepairMessage::Standing(standing);
        self.note(id, "former", [to, shard], || format!("node {to} about shard {shard}: {message:?}"));
        for frame in to_frames(vec![Letter::Repair { shard, number, message }]) {
            self.network.send((id, to), frame.to_bytes(), true, &mut self.queue, &mut self.stats);
        }
    }

    /// The connection from one node to another breaks: what was on its way is lost, and the receiver notices.
    pub(crate) fn disconnect(&mut self, from: u64, to: u64) {
        self.network.disconnect(from, to);
        let (after, life) = (self.network.latency(&mut self.stats), self.nodes[&to].life);
        self.queue.after(after, Event::PeerLost { node: to, life, lost: from });
        let (again, life) = (self.network.latency(&mut self.stats), self.nodes[&from].life);
        self.queue.after(after + again, Event::PeerFound { node: from, life, found: to });
    }

    pub(crate) fn peer_lost(&mut self, id: u64, life: u64, lost: u64) {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.alive(life)) else { return };
        process.inbox.push_back(Mail::PeerLost(lost));
        self.note(id, "peer-lost", [lost], || format!("node {lost}"));
        self.wake_worker(id);
    }

    pub(crate) fn peer_found(&mut self, id: u64, life: u64, found: u64) {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.alive(life)) else { return };
        process.inbox.push_back(Mail::PeerFound(found));
        self.note(id, "peer-found", [found], || format!("node {found}"));
        self.wake_worker(id);
    }
}
