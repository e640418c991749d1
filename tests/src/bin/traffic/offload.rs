//! Segmentation offloads of a device, as `ethtool -K DEVICE tso off gso off gro off` switches them.

use anyhow::{Context as _, Result};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd as _;

const SIOCETHTOOL: u64 = 0x8946;
/// `ETHTOOL_STSO`, `ETHTOOL_SGSO` and `ETHTOOL_SGRO` of linux/ethtool.h.
const FEATURES: [(u32, &str); 3] = [(0x1f, "tso"), (0x24, "gso"), (0x2c, "gro")];

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Switches them all.
pub(super) fn switch(device: &str, on: bool) -> Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .context("opening a socket")?;
    for (command, name) in FEATURES {
        let mut value = Value { command, data: u32::from(on) };
        // SAFETY: all zeros is a valid value of this struct.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(device.bytes().take(libc::IFNAMSIZ - 1)) {
            *to = libc::c_char::try_from(from).context("a device's name is ASCII")?;
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the request points to a value that outlives the call.
        if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as libc::Ioctl, &raw mut request) } != 0 {
            let error = std::io::Error::last_os_error();
            return Err(error).with_context(|| format!("switching {name} of {device}"));
        }
    }
    Ok(())
}
