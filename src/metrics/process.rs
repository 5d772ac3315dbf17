//! What the kernel says about this process, read from `/proc` at each scrape.
//!
//! A value that cannot be read keeps its last state: metrics never stop a broker.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::definitions::{DEFINITIONS, PROCESS_CPU, handles};

/// Reads memory and open files of this process into their metrics.
pub(super) fn refresh() {
    let handles = handles();
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes) {
        handles.process_resident.set(bytes as f64);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory being read.
        handles.process_open_files.set(entries.count().saturating_sub(1) as f64);
    }
}

/// Processor time in the text format. Written by hand: the exporter's counters are whole numbers, seconds are not.
pub(super) fn render_cpu() -> String {
    let ticks = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_ticks).unwrap_or_default();
    let seconds = ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64;
    let help =
        DEFINITIONS.iter().find(|definition| definition.name == PROCESS_CPU).map_or("", |cpu| cpu.help);
    format!("# HELP {PROCESS_CPU} {help}\n# TYPE {PROCESS_CPU} counter\n{PROCESS_CPU} {seconds}\n\n")
}

/// Notes when the process started: `now` at the first call, which the metrics' start makes.
pub(super) fn note_start() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    handles().process_start_time.set(since.as_secs_f64());
}

/// `VmRSS` of `/proc/self/status`, in bytes; the file gives KiB.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// User and system time of `/proc/self/stat`, fields 14 and 15, in clock ticks. The command's name, field 2, may hold
/// spaces and parentheses: count from its last `)`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user = fields.next()?.parse::<u64>().ok()?;
    let system = fields.next()?.parse::<u64>().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(cpu_ticks(stat), Some(300));
    }

    #[test]
    fn a_status_without_memory_is_no_value() {
        assert_eq!(resident_bytes("Name:\tlockstep\nVmRSS:\t  2048 kB\n"), Some(2048 * 1024));
        assert_eq!(resident_bytes("Name:\tkthread\n"), None);
    }
}
