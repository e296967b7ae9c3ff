//! Timed runs that take turns, so that whatever drifts on the machine drifts for all of them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::host::{tool, try_run};

use crate::units;

/// The verb with which a child of ours does nothing but touch and free memory.
pub(crate) const WARM_MEMORY: &str = "warm-memory";

/// One of those who are compared.
pub(super) struct Contestant<'a> {
    name: &'static str,
    round: Box<dyn FnMut() -> Result<Duration, String> + 'a>,
}

impl<'a> Contestant<'a> {
    /// `round` prepares, untimed, then runs once and says how long that took.
    pub(super) fn new(
        name: &'static str,
        round: impl FnMut() -> Result<Duration, String> + 'a,
    ) -> Self {
        Contestant { name, round: Box::new(round) }
    }
}

/// The median time of each contestant over `rounds` rounds in which all take turns. A first round is not counted.
/// The spread goes to standard error: figures that jump mean that the machine was not idle.
pub(super) fn medians(
    rounds: usize,
    contestants: &mut [Contestant<'_>],
) -> Result<Vec<Duration>, String> {
    let mut times = vec![Vec::with_capacity(rounds); contestants.len()];
    for round in 0..=rounds {
        for (contestant, times) in contestants.iter_mut().zip(&mut times) {
            let time = (contestant.round)()?;
            if round > 0 {
                times.push(time);
            }
        }
    }
    for (contestant, times) in contestants.iter().zip(&mut times) {
        times.sort_unstable();
        if let [least, .., most] = times[..] {
            let (least, most) = (units::time(least), units::time(most));
            eprintln!("  {}: {least} to {most}", contestant.name);
        }
    }
    Ok(times.into_iter().map(median).collect())
}

/// The middle one of some times.
pub(super) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Runs commands one after the other and gives the time of all. A failure is a sentence with what the command said.
pub(super) fn timed(commands: &mut [Command]) -> Result<Duration, String> {
    for command in &mut *commands {
        command.stdin(Stdio::null());
    }
    let start = Instant::now();
    for command in &mut *commands {
        try_run(command)?;
    }
    Ok(start.elapsed())
}

/// Makes the next run's writes go to memory that the host of a virtual machine has not taken back.
///
/// A child does it, with huge pages, and its end gives all of that back to the kernel in one piece.
pub(super) fn warm_memory(at_least_bytes: u64) -> Result<(), String> {
    let size_bytes = (at_least_bytes * 2).min(available_bytes() / 2);
    let program = std::env::current_exe().map_err(|cause| cause.to_string())?;
    let mut command = Command::new(program);
    command.args([WARM_MEMORY, &size_bytes.to_string()]);
    try_run(command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")).map(drop)
}

/// Writes all that is dirty, so that no run pays for the one before it.
pub(super) fn settle() -> Result<(), String> {
    try_run(&mut tool("sync")).map(drop)
}

fn available_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contestants_take_turns_and_the_first_round_is_not_counted() {
        let calls = std::cell::RefCell::new(String::new());
        let contestant = |name: &'static str, times: [u64; 4]| {
            let mut times = times.into_iter();
            let calls = &calls;
            Contestant::new(name, move || {
                calls.borrow_mut().push_str(name);
                Ok(Duration::from_secs(times.next().unwrap()))
            })
        };
        let medians =
            medians(3, &mut [contestant("a", [99, 1, 3, 2]), contestant("b", [0, 7, 9, 8])]);
        assert_eq!(medians, Ok(vec![Duration::from_secs(2), Duration::from_secs(8)]));
        assert_eq!(*calls.borrow(), "abababab");
    }
}
