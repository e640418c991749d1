//! Running a program that lists rules: for a bounded time, with bounded output.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// How long a listing may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Bytes that a listing may have: some 100,000 rules as JSON.
const MOST: u64 = 96 << 20;

/// Bytes of complaints that are looked at.
const COMPLAINTS: u64 = 4 << 10;

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("it could not be started: {0}")]
    Run(#[source] io::Error),
    #[error("it took longer than {} s", LIMIT.as_secs())]
    Slow,
    #[error("it listed more than {} MiB", MOST >> 20)]
    Long,
    #[error("it failed: {0}")]
    Failed(String),
}

/// Where a program is. Not every root's PATH has the system's own programs.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let directories = std::env::split_paths(&path).filter(|directory| directory.is_absolute()).chain(system);
    let paths = std::env::join_paths(directories).ok()?;
    which::which_in_global(program, Some(paths)).ok()?.next()
}

/// What a program prints.
pub(super) async fn output(program: &Path, arguments: &[&str]) -> Result<String, Error> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C on the terminal is not meant for it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::Run)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let listing = async {
        let (told, complaints) = tokio::join!(
            async {
                let told = all(stdout, MOST + 1).await;
                // Whoever lists more than is read would wait for ever.
                if told.as_ref().is_ok_and(|told| told.len() as u64 > MOST) {
                    Err(Error::Long)
                } else {
                    told.map_err(Error::Run)
                }
            },
            complaints(stderr),
        );
        let told = told?;
        let status = child.wait().await.map_err(Error::Run)?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&told).into_owned());
        }
        let complaints = String::from_utf8_lossy(&complaints);
        let first = complaints.lines().find(|line| !line.trim().is_empty());
        Err(Error::Failed(first.map_or_else(|| status.to_string(), |line| line.trim().to_owned())))
    };
    tokio::time::timeout(LIMIT, listing).await.unwrap_or(Err(Error::Slow))
}

/// All that comes, up to a limit; then the pipe is closed.
async fn all(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The first of what comes. The rest is read, too: a program that cannot complain would be stopped.
async fn complaints(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // They explain a failure, and are none themselves.
        let _ = (&mut pipe).take(COMPLAINTS).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(script: &str) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let told = runtime.block_on(output(Path::new("/bin/sh"), &["-c", script]));
        told.map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_printed_is_told_whatever_is_said_besides() {
        for (script, expected) in [
            ("echo a; echo b", Ok("a\nb\n".to_owned())),
            ("head -c 1000000 /dev/zero >&2 && echo a", Ok("a\n".to_owned())),
            ("echo a; echo; echo no >&2; echo really >&2; exit 1", Err("it failed: no".to_owned())),
            ("exit 3", Err("it failed: exit status: 3".to_owned())),
            ("cat /dev/zero", Err("it listed more than 96 MiB".to_owned())),
        ] {
            assert_eq!(told(script), expected, "{script}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let told = runtime.block_on(output(Path::new("/no-such-program"), &[]));
        assert!(matches!(told, Err(Error::Run(_))), "{told:?}");
        assert_eq!(find("no-such-program"), None);
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
    }
}
