//! What a test needs of the machine. What is missing makes it ignored, visibly, with what to install.

use std::path::{Path, PathBuf};

/// Programs that tests run, and their Debian packages.
const PACKAGES: [(&str, &str); 18] = [
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("iptables-nft-restore", "iptables"),
    ("iptables-legacy-restore", "iptables"),
    ("conntrack", "conntrack"),
    ("ping", "iputils-ping"),
    ("tcpdump", "tcpdump"),
    ("iperf3", "iperf3"),
    ("nc", "netcat-openbsd"),
    ("setpriv", "util-linux"),
    ("tshark", "tshark"),
    ("capinfos", "tshark"),
    ("editcap", "tshark"),
    ("mergecap", "tshark"),
    ("script", "bsdutils"),
    ("stty", "coreutils"),
];

/// Why a test cannot run here; `None` if it can.
#[must_use]
pub fn missing<S: AsRef<str>>(programs: &[S]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root: run it with sudo".to_owned());
    }
    let missing: Vec<_> =
        programs.iter().map(AsRef::as_ref).filter(|program| !is_installed(program)).collect();
    if missing.is_empty() {
        return None;
    }
    let mut packages: Vec<_> = missing
        .iter()
        .map(|name| PACKAGES.iter().find(|known| known.0 == *name).map_or(*name, |known| known.1))
        .collect();
    packages.dedup();
    Some(format!("needs {}: apt-get install {}", missing.join(", "), packages.join(" ")))
}

fn is_installed(program: &str) -> bool {
    find(program).is_some()
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    // Not every root's PATH has the system's own programs.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(|directory| Path::new(directory).to_owned());
    std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_its_package() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program"));
    }
}
