//! What the loader hands over: constants of the load, and the maps it fills and reads.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use tracer_common::{
    Address, Arguments, ConntrackTuple, Counters, Filter, Offsets,
    stats::{DropCounts, DropKey, TapCounts, TapKey},
};

/// One member of a loader's constant. Read as a whole, the larger ones would not fit on the stack.
macro_rules! member {
    ($global:ident: $of:ty, $($member:tt)+) => {{
        let global: *const $of = (&raw const $crate::globals::$global).cast();
        // SAFETY: `Global` is nothing but its value, which is initialised and never written. Volatile because the
        // loader overrides what the compiler sees.
        unsafe { core::ptr::read_volatile(&raw const (*global).$($member)+) }
    }};
}
pub(crate) use member;

/// The offset of a struct's member.
macro_rules! offset {
    ($member:ident) => {
        $crate::globals::member!(OFFSETS: tracer_common::Offsets, $member)
    };
}
pub(crate) use offset;

/// A packet under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Tracked {
    pub(crate) packet: u64,
    pub(crate) fingerprint: Fingerprint,
    /// The packet that it was cloned or copied from, 0 if none.
    pub(crate) parent: u64,
    /// When a tap last saw it on its way out of a device.
    pub(crate) sent_ns: u64,
    /// 1 once it has left the node.
    pub(crate) left: u64,
}

/// What stays the same about a packet while one sk_buff carries it, see [`crate::header`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Fingerprint {
    pub(crate) headers: u32,
    /// Of what is behind them; 0 if it could not be read.
    pub(crate) content: u32,
}

/// What the fragments of one packet have in common.
#[repr(C)]
pub(crate) struct FragmentKey {
    pub(crate) src: Address,
    pub(crate) dst: Address,
    pub(crate) ip_id: u32,
    pub(crate) protocol: u32,
}

/// Which packets are of interest.
#[unsafe(no_mangle)]
pub(crate) static FILTER: Global<Filter> =
    Global::new(Filter { flags: 0, protocol: 0, from_ports: [0; 4], to_ports: [0; 4], vxlan_ports: [0; 4] });

/// Where this kernel keeps what tracepoints have to read.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Global<Offsets> = Global::new(Offsets::UNKNOWN);

/// Where this kernel's functions take what hooks read.
#[unsafe(no_mangle)]
pub(crate) static ARGUMENTS: Global<Arguments> = Global::new(Arguments::NONE);

/// Inode of the namespace whose devices carry the taps.
#[unsafe(no_mangle)]
pub(crate) static NODE_NETNS: Global<u32> = Global::new(0);

/// Packets are traced whose hash is below this; 0 for all. See [`crate::sample`].
#[unsafe(no_mangle)]
pub(crate) static SAMPLE: Global<u32> = Global::new(0);

/// 1 if packets are counted in place of being reported, see [`crate::stats`].
#[unsafe(no_mangle)]
pub(crate) static STATS: Global<u32> = Global::new(0);

/// 1 while events are wanted: taps of all nodes are attached before the first one speaks.
#[map]
static ENABLED: Array<u32> = Array::with_max_entries(1, 0);

/// Which side an address is on.
#[map]
pub(crate) static ADDRESSES: HashMap<Address, u32> = HashMap::with_max_entries(4096, 0);

/// Which side a port of a node is on: protocol and port, in the upper and the lower half.
#[map]
pub(crate) static NODE_PORTS: HashMap<u32, u32> = HashMap::with_max_entries(4096, 0);

/// Inodes of the namespaces that belong to this node.
#[map]
pub(crate) static NAMESPACES: HashMap<u32, u32> = HashMap::with_max_entries(4096, 0);

/// Packets under way, by address of their sk_buff.
#[map]
pub(crate) static PACKETS: LruHashMap<u64, Tracked> = LruHashMap::with_max_entries(65536, 0);

/// How many of [`PACKETS`] have their sk_buff in each of these parts of the memory, or more: where it is 0, none has.
#[map]
pub(crate) static PARTS: Array<u64> = Array::with_max_entries(PARTS_NUMBER, 0);

/// A power of two. All parts together fit into a first-level cache.
pub(crate) const PARTS_NUMBER: u32 = 4096;

/// Fragmented packets whose first fragment matched a filter with ports, which the others do not carry.
#[map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, u32> = LruHashMap::with_max_entries(4096, 0);

/// Connections of interest that this node translates, both ways, as their packets are before.
#[map]
pub(crate) static TRANSLATED: LruHashMap<ConntrackTuple, u32> = LruHashMap::with_max_entries(65536, 0);

/// 1 once there is one: until then nobody has to look.
#[map]
pub(crate) static TRANSLATIONS: Array<u32> = Array::with_max_entries(1, 0);

/// Counts of this CPU.
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// With `--stats`, what passed each place. User space enters the places.
#[map]
pub(crate) static TAP_COUNTS: PerCpuHashMap<TapKey, TapCounts> = PerCpuHashMap::with_max_entries(1, 0);

/// With `--stats`, what was dropped where and why.
#[map]
pub(crate) static DROP_COUNTS: PerCpuHashMap<DropKey, DropCounts> = PerCpuHashMap::with_max_entries(1024, 0);

/// Events on their way to user space.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// 1 once the reader was woken, until it has drained [`EVENTS`] and clears this.
#[map]
pub(crate) static WOKEN: Array<u32> = Array::with_max_entries(1, 0);

/// Whether events are wanted.
#[inline(always)]
pub(crate) fn enabled() -> bool {
    ENABLED.get(0).is_some_and(|enabled| *enabled != 0)
}

/// Whether a namespace belongs to this node.
#[inline(always)]
pub(crate) fn is_ours(netns: u32) -> bool {
    NAMESPACES.get_ptr(netns).is_some()
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(counter: impl Fn(*mut Counters) -> *mut u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // A tracepoint in process context may be interrupted by a tap on the same CPU: a plain increment could lose one.
        // SAFETY: an aligned member of a live map value, which programs only ever add to.
        unsafe { add(counter(counters), 1) };
    }
}

/// Adds to a number at once, whatever other CPUs do. Written out because core has no read-modify-write atomics for this
/// target, and because those that fetch would need 5.12.
///
/// # Safety
///
/// `number` is an aligned member of a live map value.
#[inline(always)]
pub(crate) unsafe fn add(number: *mut u64, summand: i64) {
    // SAFETY: the caller's.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) number, in(reg) summand);
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = (number, summand);
}
