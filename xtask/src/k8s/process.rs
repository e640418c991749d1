//! Processes, told from later ones of the same number.

use std::fmt;
use std::fs;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process: its number, and when it was started, in ticks since the machine was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pid: i32,
    started: u64,
}

impl Process {
    /// The process of this number.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid).context("no process has such a number")?;
        let (_, started) = look(pid).with_context(|| format!("process {pid} has ended"))?;
        Ok(Self { pid, started })
    }

    /// Its number.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Its first child.
    pub(super) fn child(&self) -> Result<Self> {
        let Self { pid, .. } = self;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let Some(child) = children.split_whitespace().next() else {
            bail!("process {pid} has no child");
        };
        Self::of(child.parse().context("reading the number of a process")?)
    }

    /// Whether it has not ended. One that only waits to be reaped has.
    pub(super) fn is_there(&self) -> bool {
        look(self.pid).is_some_and(|(state, started)| started == self.started && !"ZX".contains(state))
    }

    /// Ends it at once. One that has ended is no error.
    pub(super) fn kill(&self) -> Result<()> {
        if !self.is_there() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot end process {}", self.pid)),
        }
    }
}

/// State and time of the start of a process.
fn look(pid: i32) -> Option<(char, u64)> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<(char, u64)> {
    // The name in parentheses may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // The third field of all was that; the 22nd is the start.
    Some((state, fields.nth(18)?.parse().ok()?))
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, started } = self;
        write!(f, "{pid} {started}")
    }
}

impl FromStr for Process {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (pid, started) = text.trim().split_once(' ').context("no number and start of a process")?;
        Ok(Self { pid: pid.parse()?, started: started.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_start() {
        let this = Process::of(std::process::id()).unwrap();
        assert!(this.is_there());
        assert_eq!(this.to_string().parse::<Process>().unwrap(), this);
        assert!(!Process { started: this.started + 1, ..this }.is_there());
        Process { started: this.started + 1, ..this }.kill().unwrap();
    }

    #[test]
    fn the_name_of_a_process_may_hold_anything() {
        let stat = "7 (a) Z (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 100 200";
        assert_eq!(parse(stat), Some(('S', 4711)));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn one_that_waits_to_be_reaped_has_ended() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        process.kill().unwrap();
        crate::wait::until("it is gone", std::time::Duration::from_secs(10), || {
            anyhow::ensure!(!process.is_there(), "it is there");
            Ok(())
        })
        .unwrap();
        child.wait().unwrap();
    }
}
