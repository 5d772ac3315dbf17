//! A broker's care for the cluster: the shards that it leads, its own place, and the moves that begin.

use lockstep::cluster::enrolment::{Next, Seen};
use lockstep::cluster::steward::Act;
use lockstep::cluster::{Command, planner};
use lockstep::engine::METADATA_SHARD;
use lockstep::shard::{Input, NOBODY};

use super::Decision;
use crate::queue::MILLISECOND;
use crate::world::World;

/// The shard that stands for a broker's own registration, where what is being written is told apart.
const REGISTRATION: u64 = u64::MAX;
/// The same for moves that begin.
const PLANNING: u64 = u64::MAX - 1;

impl World {
    /// Founds the cluster, registers, or leaves, as is due.
    pub(super) fn enrol(&mut self, id: u64) {
        let next = self.with_broker(id, |process, broker| {
            let metadata = process.hosted.get(&METADATA_SHARD)?.replica.describe();
            let me = &broker.identity.member;
            let known = broker.state.member(me.id).is_some_and(|(known, _)| **known == *me);
            broker.registered |= broker.current && known;
            let seen = Seen {
                state: &broker.state,
                me,
                joined_as: broker.joined_as.as_ref(),
                leads: broker.current && metadata.view.is_leader,
                registered: broker.registered,
            };
            Some((seen.next(), metadata.voters, me.clone()))
        });
        let Some((next, voters, me)) = next.flatten() else { return };
        match next {
            Next::Nothing => {}
            Next::Found => self.submit(id, REGISTRATION, Decision::Found(voters)),
            Next::Register => {
                self.submit(id, REGISTRATION, Decision::Write(vec![Command::RegisterBroker(me)]));
            }
            Next::Leave(why) => self.leave(id, &why),
        }
    }

    /// A broker takes no part any more; rightly so only if it was removed.
    fn leave(&mut self, id: u64, why: &str) {
        if self.brokers.rules.newest().member(id).is_some() {
            return self.violate("members-stay", format!("node {id} leaves: {why}"));
        }
        self.note(id, "leaves", [], || why.to_owned());
        self.switch_off(id);
    }

    /// Looks at every shard once, as the steward does, and lets moves begin.
    pub(super) fn care(&mut self, id: u64) {
        let now_ms = self.queue.now() / MILLISECOND;
        let acts = self.with_broker(id, |process, broker| {
            if !broker.current {
                return None;
            }
            let state = std::sync::Arc::clone(&broker.state);
            let all = state.placement(METADATA_SHARD).into_iter();
            let mut acts = Vec::new();
            for placement in all.chain(state.placements().map(|(_, placement)| placement)) {
                let Some(hosted) = process.hosted.get(&placement.shard) else { continue };
                if !broker.steward.cares_for(&state, placement, hosted.replica.view()) {
                    continue;
                }
                let leader = hosted.replica.describe();
                if let Some(act) = broker.steward.next(&state, placement, &leader, now_ms) {
                    acts.push((placement.shard, act, leader.membership_confirmed));
                }
            }
            let leads = process.hosted.get(&METADATA_SHARD).is_some_and(|it| it.replica.view().is_leader);
            Some((acts, leads && !planner::next_moves(&state).is_empty()))
        });
        let Some((acts, moves_are_due)) = acts.flatten() else { return };
        for (shard, act, confirmed) in acts {
            self.carry_out_act(id, shard, act, confirmed);
        }
        self.drop_departed(id);
        if moves_are_due {
            self.submit(id, PLANNING, Decision::Moves);
        }
    }

    fn carry_out_act(&mut self, id: u64, shard: u64, act: Act, confirmed: bool) {
        self.note(id, "act", [shard], || format!("shard {shard}: {act:?}"));
        match act {
            Act::Propose(changes, decided_on) => {
                let decided_on = Some(decided_on);
                self.mail(id, shard, Input::Membership { token: NOBODY, changes, decided_on });
            }
            Act::HandOver(to) => self.mail(id, shard, Input::Transfer { token: NOBODY, to }),
            Act::Write(command) => {
                if matches!(command, Command::FinishMove { .. }) && !confirmed {
                    let message = format!("node {id}, shard {shard}: a restart may still forget {command:?}");
                    return self.violate("move-ends-confirmed", message);
                }
                self.submit(id, shard, Decision::Write(vec![command]));
            }
        }
    }
}
