//! `traffic`: what tests send and receive within a lab, without asking for programs that may not be there.

mod bad;
mod bpf;
mod datagram;
mod deaf;
mod echo;
mod forge;
mod offload;
mod race;
mod stream;
mod web;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "usage: traffic echo ADDRESS COUNT SIZE | udp ADDRESS PORT COUNT SIZE | udp-flows ADDRESS PORT FLOWS | \
                     udp-sink PORT COUNT | \
                     udp6-sink PORT COUNT | \
                     udp-race POD POD ADDRESS PORT COUNT | udp-deaf PORT | udp-bad ADDRESS PORT | \
                     tcp ADDRESS PORT BYTES | tcp-sink PORT | web ADDRESS PORT CONNECTIONS | web-fill ADDRESS PORT MOST | \
                     offload DEVICE on|off | forge-udp FROM ADDRESS PORT TTL | forge-unreachable FROM ADDRESS ABOUT PORT | \
                     forge-tunnel NODE MAC FROM ADDRESS PORT | bpf-drop tc|xdp DEVICE";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("traffic: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["echo", to, count, size] => echo::exchange(any_address(to)?, number(count)?, number(size)?),
        ["udp", to, port, count, size] => {
            datagram::send(SocketAddr::new(any_address(to)?, number(port)?), number(count)?, number(size)?)
        }
        ["udp-flows", to, port, flows] => {
            datagram::ask(SocketAddr::new(any_address(to)?, number(port)?), number(flows)?)
        }
        ["udp-sink", port, count] => {
            datagram::receive((Ipv4Addr::UNSPECIFIED, number(port)?).into(), number(count)?)
        }
        ["udp6-sink", port, count] => {
            datagram::receive((Ipv6Addr::UNSPECIFIED, number(port)?).into(), number(count)?)
        }
        ["udp-race", slow, quick, to, port, count] => {
            race::run(slow, quick, SocketAddrV4::new(address(to)?, number(port)?), number(count)?)
        }
        ["udp-deaf", port] => deaf::listen(number(port)?),
        ["udp-bad", to, port] => bad::datagram(SocketAddrV4::new(address(to)?, number(port)?)),
        ["tcp", to, port, bytes] => {
            stream::send(SocketAddrV4::new(address(to)?, number(port)?), number(bytes)?)
        }
        ["web", to, port, connections] => {
            web::ask(SocketAddr::new(any_address(to)?, number(port)?), number(connections)?)
        }
        ["web-fill", to, port, most] => {
            web::fill(SocketAddrV4::new(address(to)?, number(port)?), number(most)?)
        }
        ["forge-udp", from, to, port, ttl] => {
            forge::datagram(address(from)?, SocketAddrV4::new(address(to)?, number(port)?), number(ttl)?)
        }
        ["forge-unreachable", from, to, about, port] => forge::unreachable(
            address(from)?,
            address(to)?,
            SocketAddrV4::new(address(about)?, number(port)?),
        ),
        ["forge-tunnel", node, mac, from, to, port] => forge::tunnel(
            address(node)?,
            mac_address(mac)?,
            address(from)?,
            SocketAddrV4::new(address(to)?, number(port)?),
        ),
        ["tcp-sink", port] => stream::receive(number(port)?),
        ["bpf-drop", kind, device] => bpf::stay(kind, device),
        ["offload", device, "on"] => offload::switch(device, true),
        ["offload", device, "off"] => offload::switch(device, false),
        _ => bail!("{USAGE}"),
    }
}

fn address(word: &str) -> Result<Ipv4Addr> {
    word.parse().with_context(|| format!("`{word}` is no address"))
}

fn mac_address(word: &str) -> Result<[u8; 6]> {
    let bytes: Result<Vec<u8>, _> = word.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    bytes.with_context(|| format!("`{word}` is no MAC address"))
}

fn any_address(word: &str) -> Result<IpAddr> {
    word.parse().with_context(|| format!("`{word}` is no address"))
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T> {
    word.parse().ok().with_context(|| format!("`{word}` is no number for this"))
}
