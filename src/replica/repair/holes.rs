//! Holes: what something intact closes is taken from any peer, one peer after another.

use lockstep_protocol::peer::RepairMessage;
use lockstep_storage::Checkpoint;

use super::{Around, FETCH_BYTES, Repair, Stage, Work};

impl Repair {
    pub(super) fn begin_patch(
        &mut self,
        segment: u64,
        checkpoint: Option<Checkpoint>,
        around: &mut Around<'_>,
    ) {
        let Some(survey) = self.survey.clone() else { return };
        let random = around.random.split();
        self.run(Work::BeginPatch { survey, segment, checkpoint, random }, around);
    }

    /// Asks the next peer that has not failed at it for what is missing next.
    pub(super) fn ask_for_hole(&mut self, around: &mut Around<'_>) {
        let Stage::Hole { patch, segment } = &self.stage else { return };
        let message = match patch.as_ref().and_then(|patch| patch.missing()) {
            Some((from_index, to_index)) => {
                RepairMessage::Fetch { from_index, to_index, max_bytes: FETCH_BYTES }
            }
            None => RepairMessage::FetchCheckpoint,
        };
        let able = |peer: &&u64| !self.unable.contains(peer);
        match around.peers.iter().find(able).copied() {
            Some(peer) => self.ask(peer, message, around),
            None => {
                self.note = format!(
                    "no other replica has what is missing in segment {segment}: if it is damaged everywhere, it must \
                     come from a backup"
                );
                self.unable.clear();
                self.exhausted = true;
                self.begin_standings(around);
            }
        }
    }
}
