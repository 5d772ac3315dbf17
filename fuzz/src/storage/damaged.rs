//! A log that was written and stopped properly, and then damaged: what is left of it is what was written.

use bytes::Bytes;
use lockstep_storage::io::{Disk, FakeDisk};
use lockstep_storage::{Entry, EntryKind};

use super::super::choices::Choices;
use super::common::{DIRECTORY, Rig, small_options};
use super::directory::{check, files, put};

/// A short history, then some damage.
pub fn log(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut rig = written(&mut choices);
    let before = entries(&rig);
    rig.disk.kill_process();
    let edits = 1 + choices.below(4);
    for _ in 0..edits {
        edit(&rig.disk, &mut choices);
    }
    rig.options.pool = None;
    let Ok(left) = check(&rig.disk, &rig.options) else { return };
    for entry in &left.entries {
        let written = before.iter().find(|written| written.index == entry.index);
        assert_eq!(written, Some(entry), "what is read is what was written");
    }
}

fn written(choices: &mut Choices) -> Rig {
    let mut rig = Rig::new(small_options());
    for _ in 0..choices.below(24) {
        match choices.below(12) {
            0..6 => {
                let term = rig.log.last_term() + u64::from(choices.below(8) == 0);
                rig.append(term, choices.below(4) as u32, choices.below(4096) as usize);
            }
            6 => rig.append_system(EntryKind::MembershipV2, b"joint"),
            7 => rig.roll(),
            8 => rig.log.set_commit(rig.log.last_index()),
            9 if rig.log.commit() < rig.log.last_index() => rig.truncate(rig.log.commit() + 1),
            10 => rig.trim(rig.committed_lsn() + 1),
            _ => rig.flush(),
        }
    }
    rig.flush();
    if choices.flag() {
        rig.log.seal();
        rig.flush();
    }
    rig
}

/// Every entry, as the log itself reads it.
fn entries(rig: &Rig) -> Vec<Entry> {
    let (mut entries, mut next) = (Vec::new(), rig.log.first_index());
    while next <= rig.log.last_index() {
        let more = rig.reader.read_entries(next, rig.log.last_index() + 1, 1 << 16).expect("a whole log");
        next += more.len() as u64;
        entries.extend(more);
    }
    entries
}

/// One thing that goes wrong with a file behind the broker's back.
pub fn edit(disk: &FakeDisk, choices: &mut Choices) {
    let files: Vec<(String, Bytes)> = files(disk).into_iter().collect();
    let Some((name, contents)) = files.get(choices.below(files.len() as u64) as usize) else { return };
    let mut bytes = contents.to_vec();
    let at = choices.below(bytes.len() as u64) as usize;
    match choices.below(8) {
        0..3 if !bytes.is_empty() => bytes[at] ^= 1 << choices.below(8),
        3 => {
            let end = (at + choices.below(1024) as usize).min(bytes.len());
            bytes[at..end].fill(choices.byte());
        }
        4 => bytes.truncate(at),
        5 => bytes.extend(std::iter::repeat_n(choices.byte(), choices.below(8192) as usize)),
        6 => {
            let other = &files[choices.below(files.len() as u64) as usize];
            bytes = other.1.to_vec();
        }
        _ => {
            disk.remove_file(&format!("{DIRECTORY}/{name}")).expect("a listed file");
            return;
        }
    }
    put(disk, name, &bytes);
}
