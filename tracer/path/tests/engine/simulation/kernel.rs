//! The kernels of a simulated cluster: the memory of sk_buffs, and the numbers that the eBPF programs give them.
//!
//! Memory that is freed becomes the next packet at once. A node's programs forget a packet where its freeing passes
//! `kfree_skb` or `consume_skb`; where it passes neither, they notice by a fingerprint that the memory is another packet.

use std::collections::HashMap;

use super::packet::{Fingerprint, Packet};

/// A packet's memory on a machine, whichever address it has.
pub(super) type Buffer = usize;

/// One machine's memory for sk_buffs. Several nodes may share a machine.
#[derive(Debug, Default)]
pub(super) struct Memory {
    free: Vec<u64>,
    next: u64,
    used: HashMap<Buffer, u64>,
}

impl Memory {
    /// The address of a buffer; a new one gets what was freed last.
    pub(super) fn address(&mut self, buffer: Buffer) -> u64 {
        let Self { free, next, used } = self;
        *used.entry(buffer).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                *next += 256;
                0xffff_8880_0000_0000 + *next
            })
        })
    }

    pub(super) fn release(&mut self, buffer: Buffer) {
        if let Some(address) = self.used.remove(&buffer) {
            self.free.push(address);
        }
    }
}

/// What the programs say of a packet at a hook.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) packet: u64,
    pub(super) parent: u64,
    pub(super) is_new: bool,
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    packet: u64,
    parent: u64,
    fingerprint: Fingerprint,
}

/// The programs of one node.
#[derive(Debug, Default)]
pub(super) struct Programs {
    followed: HashMap<u64, Followed>,
    numbers: u64,
}

impl Programs {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Where packets enter the node: always a new one.
    pub(super) fn enters(&mut self, address: u64, packet: &Packet) -> Identity {
        let number = self.number();
        let followed = Followed { packet: number, parent: 0, fingerprint: packet.fingerprint() };
        self.followed.insert(address, followed);
        Identity { packet: number, parent: 0, is_new: true }
    }

    /// Within the node.
    pub(super) fn within(&mut self, address: u64, packet: &Packet) -> Identity {
        self.known(address, packet).unwrap_or_else(|| self.enters(address, packet))
    }

    /// A packet that is followed, at a hook that begins to follow none.
    pub(super) fn known(&self, address: u64, packet: &Packet) -> Option<Identity> {
        let Followed { packet: number, parent, fingerprint } = *self.followed.get(&address)?;
        let fits = fingerprint.fits(packet.fingerprint());
        fits.then_some(Identity { packet: number, parent, is_new: false })
    }

    /// A function that copies packets has returned.
    pub(super) fn copied(&mut self, from: u64, to: u64) {
        let Some(original) = self.followed.get(&from).copied() else { return };
        let packet = self.number();
        self.followed.insert(to, Followed { packet, parent: original.packet, ..original });
    }

    /// `kfree_skb` or `consume_skb`.
    pub(super) fn forget(&mut self, address: u64) {
        self.followed.remove(&address);
    }
}
