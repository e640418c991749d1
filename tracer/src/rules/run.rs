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
    #[error("it could not be run: {0}")]
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
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .chain(system)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
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
            all(stderr, COMPLAINTS),
        );
        let told = told?;
        let status = child.wait().await.map_err(Error::Run)?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&told).into_owned());
        }
        let complaints = complaints.unwrap_or_default();
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
