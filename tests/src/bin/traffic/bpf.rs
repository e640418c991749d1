//! A BPF program that drops every IPv4 packet at a device, as a CNI or a load balancer might by mistake.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const SCHED_CLS: u32 = 3;
const XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const ATTACH_TCX_INGRESS: u32 = 46;

/// `struct bpf_insn` by its parts: code, destination and source register, offset, immediate.
type Instruction = (u8, u8, u8, i16, i32);

/// Drops what has `skb->protocol` IPv4 and leaves all else to others.
const OF_TC: [Instruction; 5] = [
    (0xb7, 0, 0, 0, -1), // r0 = TCX_NEXT
    (0x61, 2, 1, 16, 0), // r2 = skb->protocol
    (0x55, 2, 0, 1, 8),  // if r2 != htons(ETH_P_IP) skip one
    (0xb7, 0, 0, 0, 2),  // r0 = TCX_DROP
    (0x95, 0, 0, 0, 0),
];

/// Drops what has an Ethernet header of the type IPv4 and passes all else.
const OF_XDP: [Instruction; 10] = [
    (0xb7, 0, 0, 0, 2),  // r0 = XDP_PASS
    (0x61, 2, 1, 4, 0),  // r2 = data_end
    (0x61, 3, 1, 0, 0),  // r3 = data
    (0xbf, 4, 3, 0, 0),  // r4 = r3
    (0x07, 4, 0, 0, 14), // r4 += 14
    (0x2d, 4, 2, 3, 0),  // if r4 > r2 skip three
    (0x69, 5, 3, 12, 0), // r5 = the Ethernet type
    (0x55, 5, 0, 1, 8),  // if r5 != htons(ETH_P_IP) skip one
    (0xb7, 0, 0, 0, 1),  // r0 = XDP_DROP
    (0x95, 0, 0, 0, 0),
];

/// Time in milliseconds after which it ends in any case.
const LONGEST: i32 = 600_000;

/// Attaches it and stays until its output is closed, ten minutes at most.
pub(super) fn stay(kind: &str, device: &str) -> Result<()> {
    let (program, program_type, attach) = match kind {
        "xdp" => (OF_XDP.as_slice(), XDP, ATTACH_XDP),
        "tc" => (OF_TC.as_slice(), SCHED_CLS, ATTACH_TCX_INGRESS),
        _ => bail!("`{kind}` is neither tc nor xdp"),
    };
    let code: Vec<u64> = program.iter().map(|instruction| encode(*instruction)).collect();
    let index = if_nametoindex(device).with_context(|| format!("looking for {device}"))?;
    let mut load = [0_u32; 32];
    load[0] = program_type;
    load[1] = u32::try_from(code.len())?;
    put(&mut load, 2, code.as_ptr() as u64);
    put(&mut load, 4, c"GPL".as_ptr() as u64);
    if program_type == XDP {
        load[17] = attach;
    }
    let program = bpf(PROG_LOAD, &load).context("loading the program")?;
    let mut link = [0_u32; 32];
    link[0] = u32::try_from(program)?;
    link[1] = index;
    link[2] = attach;
    bpf(LINK_CREATE, &link).with_context(|| format!("attaching it to {device}"))?;
    println!("attached");
    // The link goes with this process, which ends when nobody reads its output any more.
    let stdout = std::io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::try_from(LONGEST)?).context("waiting for the end of the reader")?;
    Ok(())
}

fn encode((code, to, from, offset, immediate): Instruction) -> u64 {
    let registers = u64::from(to | from << 4) << 8;
    let offset = u64::from(u16::from_ne_bytes(offset.to_ne_bytes())) << 16;
    let immediate = u64::from(u32::from_ne_bytes(immediate.to_ne_bytes())) << 32;
    u64::from(code) | registers | offset | immediate
}

fn put(attributes: &mut [u32], at: usize, value: u64) {
    let bytes = value.to_ne_bytes();
    for (half, to) in bytes.chunks_exact(4).zip(&mut attributes[at..]) {
        *to = u32::from_ne_bytes([half[0], half[1], half[2], half[3]]);
    }
}

fn bpf(command: libc::c_int, attributes: &[u32; 32]) -> Result<i64> {
    // SAFETY: the attributes, and what they point to, outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    if result < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(result)
}
