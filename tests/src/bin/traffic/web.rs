//! Clients of the lab's web servers, which say whose they are.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddrV4, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

/// Makes so many connections at once, and tells how often which server answered: a line of name and number each.
pub(super) fn ask(to: SocketAddrV4, connections: usize) -> Result<()> {
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

fn one(to: SocketAddrV4) -> Result<String> {
    let mut stream = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
    let mut name = String::new();
    stream.read_to_string(&mut name).with_context(|| format!("reading what {to} answers"))?;
    Ok(name.trim().to_owned())
}

/// How long a connection may take where there is room for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens connections until one is not let through, and holds them until this process is ended.
pub(super) fn fill(to: SocketAddrV4, most: usize) -> Result<()> {
    let mut held = Vec::new();
    while let Ok(mut stream) = TcpStream::connect_timeout(&to.into(), PATIENCE) {
        // Once it has been answered, the connection counts as one that stands.
        stream.read_to_string(&mut String::new()).with_context(|| format!("reading what {to} answers"))?;
        held.push(stream);
        ensure!(held.len() < most, "all of {most} connections were let through");
    }
    println!("ready: {} connections, and no more", held.len());
    loop {
        thread::park();
    }
}
