//! What a process has used, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// Processor time of a process, user and system; `None` if it is gone.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let ticks = ticks_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Resident memory of a process in bytes; `None` if it is gone.
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Files that a process has open; `None` if it is gone.
#[must_use]
pub fn open_files(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// User and system time in clock ticks: the 14th and 15th fields. The second is a name in parentheses, which may hold
/// anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0";
        assert_eq!(ticks_of(stat), Some(150));
        assert_eq!(ticks_of("7 (a"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(resident_bytes(std::process::id()).unwrap() > 1 << 16);
        assert!(cpu_time(std::process::id()).is_some());
        assert!(open_files(std::process::id()).is_some_and(|files| files > 2));
    }
}
