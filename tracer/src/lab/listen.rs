//! The servers behind the lab's Services: one in each pod behind a Service, which answers with the pod's name.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::plan::Plan;
use super::services::{DNS_PORT, WEB_PORT, is_endpoint};
use crate::netns::{Netns, named_path};

/// Time limit for a client to close its connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts the servers of all pods. They run until the lab is removed.
pub(super) fn start(plan: &Plan) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    // A socket of IPv6 takes IPv4 as well.
    let has_ipv6 = plan.pods().flat_map(|pod| &pod.addresses).any(IpAddr::is_ipv6);
    let address = if has_ipv6 { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    for pod in plan.pods().filter(|pod| is_endpoint(&pod.name)) {
        let netns = Netns::open(named_path(&pod.host.netns))?;
        netns
            .run(|| {
                let mut command = Command::new(&program);
                command.args(["lab", "listen", &pod.name, &address.to_string()]);
                // In its own process group, so that a Ctrl-C on `lab up` does not end it.
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
                command.spawn().context("cannot start it")
            })
            .with_context(|| format!("cannot start the server of {}", pod.name))?;
    }
    Ok(())
}

/// Whether a command line is that of a server.
pub(super) fn is_server(arguments: &[u8]) -> bool {
    let mut words = arguments.split(|byte| *byte == 0).skip(1);
    words.next() == Some(b"lab") && words.next() == Some(b"listen")
}

/// Whether a server listens, according to `/proc/net/tcp` and `/proc/net/udp`, or those of IPv6.
pub(super) fn listens(tcp: &str, udp: &str) -> bool {
    let has = |table: &str, port: u16, state: &str| {
        table.lines().skip(1).any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().unwrap_or_default();
            local.ends_with(&format!(":{port:04X}")) && words.nth(1) == Some(state)
        })
    };
    // The state of a UDP socket without a peer is "close".
    has(tcp, WEB_PORT, "0A") && has(udp, DNS_PORT, "07")
}

/// Serves at an address of this process's network namespace until it is killed.
///
/// # Errors
///
/// If the ports are taken.
pub(super) fn serve(pod: &str, address: IpAddr) -> Result<()> {
    let web = TcpListener::bind((address, WEB_PORT));
    let web = web.with_context(|| format!("cannot listen on TCP port {WEB_PORT}"))?;
    let dns = UdpSocket::bind((address, DNS_PORT));
    let dns = dns.with_context(|| format!("cannot listen on UDP port {DNS_PORT}"))?;
    let name = format!("{pod}\n");
    std::thread::scope(|scope| {
        scope.spawn(|| answer_datagrams(&dns, &name));
        for client in web.incoming() {
            // A client that disconnects early is no error.
            let Ok(client) = client else { continue };
            scope.spawn(|| answer(client, &name));
        }
    });
    Ok(())
}

fn answer(mut client: TcpStream, name: &str) {
    // Errors of one client do not matter to others.
    let _ = client.set_read_timeout(Some(PATIENCE));
    let _ = client.write_all(name.as_bytes());
    let _ = client.shutdown(Shutdown::Write);
    let mut rest = [0; 512];
    while client.read(&mut rest).is_ok_and(|read| read > 0) {}
}

fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let mut question = [0; 2048];
    loop {
        if let Ok((_, client)) = socket.recv_from(&mut question) {
            // As above.
            let _ = socket.send_to(name.as_bytes(), client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_sockets_and_by_its_arguments() {
        let head = "  sl  local_address rem_address   st\n";
        let tcp = format!("{head}   0: 00000000:1F90 00000000:0000 0A 00000000:00000000\n");
        let udp = format!("{head}   9: 00000000:14E9 00000000:0000 07 00000000:00000000\n");
        assert!(listens(&tcp, &udp));
        assert!(!listens(&tcp.replace("0A 0", "01 0"), &udp) && !listens(head, &udp) && !listens(&tcp, ""));
        assert!(is_server(b"/usr/bin/podtrace\0lab\0listen\0pod2\0"));
        assert!(!is_server(b"/usr/bin/podtrace\0lab\0up\0") && !is_server(b""));
    }
}
