//! Runs a program that lists rules, with limits on time and output.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// Time limit.
const LIMIT: Duration = Duration::from_secs(10);

/// Maximum size of the output in bytes: some 100,000 rules as JSON.
const MOST: u64 = 96 << 20;

/// Maximum number of bytes kept from stderr.
const STDERR: u64 = 4 << 10;

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("it could not be started: {0}")]
    Run(#[source] io::Error),
    #[error("it took longer than {} s", LIMIT.as_secs())]
    Slow,
    #[error("its output is larger than {} MiB", MOST >> 20)]
    Long,
    #[error("it failed: {0}")]
    Failed(String),
}

/// Finds a program in `PATH` and in the usual directories, which not every root has in its `PATH`.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let directories = std::env::split_paths(&path).filter(|directory| directory.is_absolute()).chain(system);
    let paths = std::env::join_paths(directories).ok()?;
    which::which_in_global(program, Some(paths)).ok()?.next()
}

/// The output of a program.
pub(super) async fn output(program: &Path, arguments: &[&str]) -> Result<String, Error> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C on the terminal must not reach it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::Run)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let listing = async {
        let (output, messages) = tokio::join!(
            async {
                let output = all(stdout, MOST + 1).await;
                // A program with more output than is read would wait forever.
                if output.as_ref().is_ok_and(|output| output.len() as u64 > MOST) {
                    Err(Error::Long)
                } else {
                    output.map_err(Error::Run)
                }
            },
            messages(stderr),
        );
        let output = output?;
        let status = child.wait().await.map_err(Error::Run)?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&output).into_owned());
        }
        let messages = String::from_utf8_lossy(&messages);
        let first = messages.lines().find(|line| !line.trim().is_empty());
        Err(Error::Failed(first.map_or_else(|| status.to_string(), |line| line.trim().to_owned())))
    };
    tokio::time::timeout(LIMIT, listing).await.unwrap_or(Err(Error::Slow))
}

/// Reads everything up to a limit, then closes the pipe.
async fn all(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Keeps the beginning and reads the rest, too: a program whose stderr is full would block.
async fn messages(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // Messages only explain a failure; failing to read them is none.
        let _ = (&mut pipe).take(STDERR).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_script(script: &str) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let output = runtime.block_on(output(Path::new("/bin/sh"), &["-c", script]));
        output.map_err(|error| error.to_string())
    }

    #[test]
    fn stdout_is_the_output_and_stderr_the_reason() {
        for (script, expected) in [
            ("echo a; echo b", Ok("a\nb\n".to_owned())),
            ("head -c 1000000 /dev/zero >&2 && echo a", Ok("a\n".to_owned())),
            ("echo a; echo; echo no >&2; echo really >&2; exit 1", Err("it failed: no".to_owned())),
            ("exit 3", Err("it failed: exit status: 3".to_owned())),
            ("cat /dev/zero", Err("its output is larger than 96 MiB".to_owned())),
        ] {
            assert_eq!(run_script(script), expected, "{script}");
        }
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let output = runtime.block_on(output(Path::new("/no-such-program"), &[]));
        assert!(matches!(output, Err(Error::Run(_))), "{output:?}");
        assert_eq!(find("no-such-program"), None);
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
    }
}
