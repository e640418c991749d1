//! Programs that run beside the load: started and ready, the time they use, ended as by Ctrl-C.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Clock ticks per second in `/proc/PID/stat`: a constant of the ABI on all architectures that podtrace runs on.
const TICKS: f64 = 100.0;

/// Running programs. Dropping them kills them.
#[derive(Default)]
pub(super) struct Beside(Vec<Child>);

impl Beside {
    /// Starts one more, and waits until its stderr has a line that contains `ready`. Its stdout goes to nowhere.
    pub(super) fn add(&mut self, mut command: Command, ready: &str) -> Result<()> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("running {command:?}"))?;
        let stderr = child.stderr.take().context("its stderr is no pipe")?;
        self.0.push(child);
        let mut stderr = BufReader::new(stderr);
        let mut said = String::new();
        loop {
            let begin = said.len();
            let read = stderr.read_line(&mut said).context("reading its stderr")?;
            ensure!(read > 0, "{command:?} ended before it was ready: {said}");
            if said[begin..].contains(ready) {
                break;
            }
        }
        // What nobody reads would block it.
        thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
        Ok(())
    }

    /// Seconds of CPU time that they and the programs that they started have used.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let processes = processes()?;
        let of = |child: &Child| used(child.id(), &processes);
        Ok(self.0.iter().map(of).sum::<u64>() as f64 / TICKS)
    }

    /// They and the programs that they started.
    pub(super) fn pids(&self) -> Result<Vec<u32>> {
        let processes = processes()?;
        let mut pids: Vec<u32> = self.0.iter().map(Child::id).collect();
        let mut at = 0;
        while let Some(parent) = pids.get(at).copied() {
            pids.extend(
                processes.iter().filter(|(_, process)| process.parent == parent).map(|(pid, _)| *pid),
            );
            at += 1;
        }
        Ok(pids)
    }

    /// Ends them as Ctrl-C does.
    pub(super) fn stop(mut self) -> Result<()> {
        for child in &self.0 {
            let pid = i32::try_from(child.id()).context("a process id")?;
            kill(Pid::from_raw(pid), Signal::SIGINT).context("ending a program of the benchmark")?;
        }
        for child in &mut self.0 {
            child.wait().context("waiting for a program of the benchmark")?;
        }
        self.0.clear();
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A process: who started it, and its clock ticks.
struct Process {
    parent: u32,
    ticks: u64,
}

fn processes() -> Result<BTreeMap<u32, Process>> {
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("listing processes")? {
        let entry = entry.context("listing processes")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ends meanwhile is missing.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(process) = parse(&stat) {
            processes.insert(pid, process);
        }
    }
    Ok(processes)
}

/// Parses `/proc/PID/stat`, where a name in parentheses may contain anything.
fn parse(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Process { parent: u32::try_from(number(1)?).ok()?, ticks: number(11)? + number(12)? })
}

/// Clock ticks of a process and of all that it started.
fn used(pid: u32, processes: &BTreeMap<u32, Process>) -> u64 {
    let own = processes.get(&pid).map_or(0, |process| process.ticks);
    let children = processes.iter().filter(|(_, process)| process.parent == pid);
    own + children.map(|(child, _)| used(*child, processes)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_counts_with_its_children() {
        let stat = |pid: u32, parent: u32, user: u64| {
            (pid, parse(&format!("{pid} (a ) b) S {parent} 0 0 0 0 0 0 0 0 0 {user} 2 0 0")).unwrap())
        };
        let processes =
            BTreeMap::from([stat(10, 1, 100), stat(11, 10, 20), stat(12, 11, 3), stat(13, 1, 50)]);
        assert_eq!(used(10, &processes), 100 + 20 + 3 + 3 * 2);
        assert!(parse("10 (a").is_none());
    }
}
