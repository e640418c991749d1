//! Connection tracking: the connection of a packet, and packets that match because NAT translates a traced connection.
//!
//! A reply to a translated packet comes in with addresses that the filter may not have. So each traced packet whose
//! connection has NAT stores both directions' tuples as they are before NAT, and the filter looks up packets in them.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use tracer_common::{ABSENT, Address, Conntrack, ConntrackTuple, filter_flag, is_kernel_address, status};

use crate::{
    globals::{TRANSLATED, TRANSLATIONS, member, offset},
    header::Header,
    reader::{Reader, kernel},
};

/// Bits of `sk_buff._nfct` that are not part of the address (`NFCT_INFOMASK`).
const INFO: u64 = 7;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Writes the packet's connection in place. Returns false if it has none.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(always)]
pub(crate) unsafe fn write(skb: u64, to: *mut Conntrack) -> bool {
    let Some(nfct) = kernel::<u64>(skb, offset!(skb_nfct)) else { return false };
    let connection = nfct & !INFO;
    if !is_kernel_address(connection) {
        return false;
    }
    let (original, reply) = (offset!(conn_original), offset!(conn_reply));
    let (status, mark, zone) = (offset!(conn_status), offset!(conn_mark), offset!(conn_zone));
    // SAFETY: the caller's: members of what is valid for writing.
    unsafe {
        if !copy(&raw mut (*to).original, connection, original) {
            return false;
        }
        // If the first field can be read, so can the others. A read that faults leaves zeros.
        copy(&raw mut (*to).reply, connection, reply);
        copy(&raw mut (*to).status, connection, status);
        copy(&raw mut (*to).mark, connection, mark);
        copy(&raw mut (*to).zone, connection, zone);
        (&raw mut (*to).info).write((nfct & INFO) as u16);
        (&raw mut (*to).reserved).write(0);
    }
    true
}

/// Copies a member of a connection, or zeros if this kernel does not have it. VERIFIER: callers ignore most results, so
/// that the verifier has one path to follow instead of two.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(always)]
unsafe fn copy<T>(to: *mut T, connection: u64, offset: u32) -> bool {
    // SAFETY: the caller's.
    unsafe {
        if offset == ABSENT {
            to.write_bytes(0, 1);
            return false;
        }
        let from = (connection + u64::from(offset)) as *const _;
        bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, from) == 0
    }
}

/// Stores the tuples of a translated connection as packets have them before NAT, in both directions.
///
/// # Safety
///
/// `of` was written by [`write`].
#[inline(always)]
pub(crate) unsafe fn remember(of: *const Conntrack) {
    // SAFETY: the caller's.
    let translated = unsafe { (*of).status } & (status::SRC_NAT | status::DST_NAT);
    if translated == 0 {
        return;
    }
    // SAFETY: as above.
    let (mut original, mut reply) = unsafe { ((*of).original, (*of).reply) };
    (original.direction, reply.direction) = (0, 0);
    let mut new = TRANSLATED.insert(original, 1, 0).is_ok();
    if member!(FILTER: tracer_common::Filter, flags) & filter_flag::ONE_WAY == 0 {
        new |= TRANSLATED.insert(reply, 2, 0).is_ok();
    }
    if new && let Some(translations) = TRANSLATIONS.get_ptr_mut(0) {
        // SAFETY: a live map value, which is only ever set.
        unsafe { *translations = 1 };
    }
}

/// Which way the packet goes, if it belongs to a traced connection that NAT translates: 1 as the connection was opened, 2
/// back.
#[inline(always)]
pub(crate) fn translated<R: Reader>(header: &Header, reader: &R) -> Option<u32> {
    if !TRANSLATIONS.get(0).is_some_and(|any| *any != 0) {
        return None;
    }
    way(&tuple(&header.src, &header.dst, header, reader))
}

/// The same for the packet quoted by an ICMP error, which travelled in the other direction.
#[inline(always)]
pub(crate) fn quoted_translated<R: Reader>(quoted: &Header, reader: &R) -> Option<u32> {
    if !TRANSLATIONS.get(0).is_some_and(|any| *any != 0) {
        return None;
    }
    let mut back = tuple(&quoted.dst, &quoted.src, quoted, reader);
    (back.sport, back.dport) = (back.dport, back.sport);
    // The tuple is that of the error's own way, so the quoted packet's is the other one.
    way(&back).map(|way| way ^ 3)
}

#[inline(always)]
fn way(tuple: &ConntrackTuple) -> Option<u32> {
    // SAFETY: a number that is read at once. If the entry was given to another connection meanwhile, it is one of the two
    // all the same.
    unsafe { TRANSLATED.get(tuple) }.copied()
}

#[inline(always)]
fn tuple<R: Reader>(src: &Address, dst: &Address, header: &Header, reader: &R) -> ConntrackTuple {
    let v4 = header.is_v4();
    let (sport, dport) = header.conntrack_ports(reader);
    ConntrackTuple {
        src: address(src, v4),
        sport,
        family: if v4 { AF_INET } else { AF_INET6 },
        dst: address(dst, v4),
        dport,
        protocol: header.protocol,
        direction: 0,
    }
}

/// An address in the layout of connection tracking.
#[inline(always)]
fn address(mapped: &Address, v4: bool) -> [u8; 16] {
    if !v4 {
        return *mapped;
    }
    let mut address = [0; 16];
    [.., address[0], address[1], address[2], address[3]] = *mapped;
    address
}
