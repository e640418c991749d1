//! Clients of the lab's web servers, which say whose they are.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddrV4, TcpStream};
use std::thread;

use anyhow::{Context as _, Result, anyhow};

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

/// Opens so many connections and holds them until this process is ended.
pub(super) fn hold(to: SocketAddrV4, connections: usize) -> Result<()> {
    let held: Result<Vec<TcpStream>> = (0..connections)
        .map(|_| {
            let mut stream = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
            // Once it has been answered, the connection counts as one that stands.
            stream
                .read_to_string(&mut String::new())
                .with_context(|| format!("reading what {to} answers"))?;
            Ok(stream)
        })
        .collect();
    let held = held?;
    println!("ready: {} connections", held.len());
    loop {
        thread::park();
    }
}
