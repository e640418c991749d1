//! Clients of the lab's web servers, which say whose they are.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

/// Makes so many connections at once, and tells how often which server answered: a line of name and number each.
pub(super) fn ask(to: SocketAddr, connections: usize) -> Result<()> {
    let clients: Vec<_> = (0..connections).map(|_| thread::spawn(move || one(to))).collect();
    let mut answers = BTreeMap::<String, u32>::new();
    for client in clients {
        let name = client.join().map_err(|_| anyhow!("a client panicked"))??;
        *answers.entry(name).or_default() += 1;
    }
    for (name, count) in answers {
        println!("{name} {count}");
    }
    Ok(())
}

fn one(to: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
    let mut name = String::new();
    stream.read_to_string(&mut name).with_context(|| format!("reading what {to} answers"))?;
    Ok(name.trim().to_owned())
}

/// How long a connection may take where there is room for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it is tried for again where there was none.
const AGAIN: Duration = Duration::from_millis(500);

/// After so long it ends by itself.
const LONGEST: Duration = Duration::from_secs(900);

/// Opens connections until one is not let through, and holds them until this process is ended. Whatever room there is
/// later is taken as well.
pub(super) fn fill(to: SocketAddrV4, most: usize) -> Result<()> {
    let mut held = Vec::new();
    let mut patience = PATIENCE;
    let end = Instant::now() + LONGEST;
    while Instant::now() < end {
        match TcpStream::connect_timeout(&to.into(), patience) {
            Ok(mut stream) => {
                // Once it has been answered, the connection counts as one that stands.
                stream
                    .read_to_string(&mut String::new())
                    .with_context(|| format!("reading what {to} answers"))?;
                held.push(stream);
                ensure!(held.len() < most, "all of {most} connections were let through");
            }
            Err(_) if patience == PATIENCE => {
                println!("ready: {} connections, and no more", held.len());
                patience = AGAIN;
            }
            Err(_) => {}
        }
    }
    Ok(())
}
