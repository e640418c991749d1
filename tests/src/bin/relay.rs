//! `relay`: carries a command's stdin and stdout over a virtio port between a virtual machine and its host. Such a port
//! has no begin or end of a stream.
//!
//! In the guest, `relay serve DEVICE COMMAND…` runs the command for one client after the other. On the host,
//! `relay connect SOCKET` is a client, and `relay end SOCKET` ends the server.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

/// What a caller says first, each on a line of its own. Whatever else arrives was left unread by the last one's command.
/// A name that no other caller has follows [`BEGIN`]. The server repeats this line before the command's output: what the
/// caller reads before it belongs to the last one, who has hung up early.
const BEGIN: &str = "@relay begin ";
const END: &str = "@relay end";

/// Pause between two looks for a caller: without one, a port has no end of input to wait for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["serve", device, program, arguments @ ..] => serve(Path::new(device), program, arguments),
        // What follows is the command line that the caller would have run: the server has its own.
        ["connect", socket, ..] => connect(Path::new(socket)),
        ["end", socket] => end(Path::new(socket)),
        _ => Err(anyhow::anyhow!("usage: relay serve DEVICE COMMAND… | connect SOCKET … | end SOCKET")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command for each client, until one asks to end.
fn serve(device: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    // Open for good: closing the port throws away what has arrived, which may be the next caller's first word.
    let port = OpenOptions::new().read(true).write(true).open(device);
    let mut port = port.with_context(|| format!("opening {}", device.display()))?;
    loop {
        match line(&mut port).context("listening for a caller")?.as_str() {
            begin if begin.starts_with(BEGIN) => {
                writeln!(port, "{begin}").context("answering a caller")?;
                let input = port.try_clone().context("handing the port on")?;
                let mut command = Command::new(program);
                command.args(arguments).stdin(input).stdout(Stdio::piped());
                let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
                let output = child.stdout.take().context("it has no stdout")?;
                // A caller that goes away is no error: the command sees the end of its input.
                let carried = encode(output, &mut port);
                let ended = child.wait().context("waiting for it")?;
                eprintln!("relay: served a caller: {carried:?}, {ended}");
            }
            END => return Ok(()),
            _ => {}
        }
    }
}

/// The next line, byte by byte, for what follows belongs to the command.
fn line(from: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match from.read(&mut byte)? {
            // Nobody is there.
            0 => std::thread::sleep(LOOK_AGAIN),
            _ if byte == *b"\n" => return Ok(String::from_utf8_lossy(&line).into_owned()),
            _ => line.extend(byte),
        }
    }
}

/// Calls with a line of its own, whatever was there before.
fn call(socket: &Path, word: &str) -> Result<UnixStream> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
    write!(stream, "\n{word}\n").context("beginning")?;
    Ok(stream)
}

/// Carries stdin to the command and its output to stdout, until either ends.
fn connect(socket: &Path) -> Result<()> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("reading the clock")?;
    let word = format!("{BEGIN}{} {}", std::process::id(), since.as_nanos());
    let mut stream = call(socket, &word)?;
    skip_to(&mut stream, format!("{word}\n").as_bytes()).context("waiting for the server's answer")?;
    let mut there = stream.try_clone().context("handing the socket on")?;
    std::thread::spawn(move || {
        // What cannot be carried shows as the end of what is heard.
        let _ = io::copy(&mut io::stdin(), &mut there);
        let _ = there.shutdown(Shutdown::Write);
    });
    decode(stream, &mut io::stdout())
}

/// Reads up to and with the first occurrence of `word`.
fn skip_to(from: &mut impl Read, word: &[u8]) -> io::Result<()> {
    let mut last = Vec::new();
    let mut byte = [0];
    while !last.ends_with(word) {
        from.read_exact(&mut byte)?;
        last.push(byte[0]);
        let too_long = last.len().saturating_sub(word.len());
        last.drain(..too_long);
    }
    Ok(())
}

fn end(socket: &Path) -> Result<()> {
    let mut stream = call(socket, END)?;
    // Until the machine has gone down: hanging up earlier would take the word back.
    let _ = stream.read_to_end(&mut Vec::new());
    Ok(())
}

/// Encodes a stream in chunks with their length; the last one is empty.
fn encode(mut from: impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = from.read(&mut buffer)?;
        let head = u32::try_from(length).map_err(io::Error::other)?.to_le_bytes();
        to.write_all(&head)?;
        to.write_all(&buffer[..length])?;
        if length == 0 {
            return to.flush();
        }
    }
}

/// Decodes [`encode`]. The end of the connection also ends the stream.
fn decode(mut from: impl Read, to: &mut impl Write) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let mut head = [0; 4];
        match from.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read.context("hearing from the other side")?,
        }
        let length = u32::from_le_bytes(head) as usize;
        if length > 1 << 16 {
            bail!("what arrives is not what `relay serve` sends");
        }
        if length == 0 {
            return Ok(());
        }
        buffer.resize(length, 0);
        from.read_exact(&mut buffer).context("hearing from the other side")?;
        to.write_all(&buffer).and_then(|()| to.flush()).context("passing on what was heard")?;
    }
}
