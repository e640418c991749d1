//! Programs at functions of the kernel's network stack: what a node does with a packet between its devices.
//!
//! These functions run for every packet of the machine, so each program first checks whether the packet is followed. Only
//! [`local_out`] starts to follow new ones: there the node's own packets begin. fentry (a direct call) costs less than a
//! kprobe, but a kprobe works without BTF, above all in modules. The macro [`hooks`] makes both from one body.

use aya_ebpf::{
    macros::{fentry, fexit, kprobe},
    programs::{FEntryContext, FExitContext, ProbeContext},
};
use tracer_common::{Arguments, Event, NO_ARGUMENT, flag, hook};

use crate::{
    classify,
    emit::{Sighting, emit, emit_alone},
    globals::{NODE_NETNS, enabled, member, offset},
    identity::{self, Moment},
    reader::{SkbReader, kernel, plain},
    route,
};

/// A call of a hooked function.
trait Call {
    /// One of the first five arguments, by position.
    fn argument(&self, number: u8) -> Option<u64>;
}

/// VERIFIER: older kernels (5.10 for one) allow reading an argument only at an offset that is part of the instruction.
/// The compiler would merge the branches into one load at a computed offset. A different instruction in each branch
/// prevents that.
macro_rules! distinct {
    ($value:expr, $comment:literal) => {{
        let mut value: u64 = $value;
        // SAFETY: an instruction that changes nothing.
        #[cfg(target_arch = "bpf")]
        unsafe {
            core::arch::asm!($comment, inout(reg) value);
        }
        #[cfg(not(target_arch = "bpf"))]
        let _ = &mut value;
        value
    }};
}

macro_rules! call {
    ($context:ty, $argument:expr) => {
        impl Call for $context {
            #[inline(always)]
            fn argument(&self, number: u8) -> Option<u64> {
                let argument = $argument;
                // VERIFIER: arguments may only be read at constant offsets. `number` is a constant when the program is
                // loaded, so the verifier follows one branch only, and the function has that argument.
                match number {
                    0 => argument(self, 0).map(|value| distinct!(value, "{0} += 0 // 0")),
                    1 => argument(self, 1).map(|value| distinct!(value, "{0} += 0 // 1")),
                    2 => argument(self, 2).map(|value| distinct!(value, "{0} += 0 // 2")),
                    3 => argument(self, 3).map(|value| distinct!(value, "{0} += 0 // 3")),
                    4 => argument(self, 4).map(|value| distinct!(value, "{0} += 0 // 4")),
                    _ => None,
                }
            }
        }
    };
}

call!(ProbeContext, |call: &Self, number| call.arg::<u64>(number));
call!(FEntryContext, |call: &Self, number| Some(call.arg::<u64>(number)));

macro_rules! hooks {
    ($($fentry:ident $kprobe:ident $hook:ident $body:ident;)*) => {$(
        #[fentry]
        fn $fentry(ctx: FEntryContext) -> i32 {
            if enabled() {
                let _ = $body(&ctx, hook::$hook);
            }
            0
        }

        #[kprobe]
        fn $kprobe(ctx: ProbeContext) -> u32 {
            if enabled() {
                let _ = $body(&ctx, hook::$hook);
            }
            0
        }
    )*};
}

hooks! {
    fentry_br_handle_frame_finish kprobe_br_handle_frame_finish BRIDGE_INPUT passes;
    fentry_br_forward kprobe_br_forward BRIDGE_FORWARD passes;
    fentry_br_flood kprobe_br_flood BRIDGE_FLOOD passes;
    fentry_br_pass_frame_up kprobe_br_pass_frame_up BRIDGE_UP passes;
    fentry_br_dev_queue_push_xmit kprobe_br_dev_queue_push_xmit BRIDGE_OUTPUT passes;
    fentry_ip_rcv_core kprobe_ip_rcv_core IP_RECEIVE passes;
    fentry_ip_forward kprobe_ip_forward IP_FORWARD passes;
    fentry_ip_output kprobe_ip_output IP_OUTPUT passes;
    fentry_ip_local_deliver kprobe_ip_local_deliver IP_LOCAL_IN passes;
    fentry_ip_local_out kprobe_ip_local_out IP_LOCAL_OUT local_out;
    fentry_ip6_rcv_core kprobe_ip6_rcv_core IP6_RECEIVE passes;
    fentry_ip6_forward kprobe_ip6_forward IP6_FORWARD passes;
    fentry_ip6_output kprobe_ip6_output IP6_OUTPUT passes;
    fentry_ip6_input kprobe_ip6_input IP6_LOCAL_IN passes;
    fentry_ip6_local_out kprobe_ip6_local_out IP6_LOCAL_OUT local_out;
    fentry_nf_hook_slow kprobe_nf_hook_slow NETFILTER netfilter;
    fentry_nf_conntrack_in kprobe_nf_conntrack_in CONNTRACK passes;
    fentry_nf_nat_manip_pkt kprobe_nf_nat_manip_pkt NAT nat;
    fentry_vxlan_xmit_one kprobe_vxlan_xmit_one VXLAN_TRANSMIT passes;
    fentry_vxlan_rcv kprobe_vxlan_rcv VXLAN_RECEIVE passes;
    fentry_neigh_resolve_output kprobe_neigh_resolve_output NEIGHBOUR neighbour;
}

/// Reports a followed packet.
#[inline(always)]
fn passes(call: &impl Call, hook: u16) -> Option<()> {
    seen(followed(call, hook)?, hook, 0)
}

/// Reports a followed packet at a netfilter hook; `struct nf_hook_state` says which one.
#[inline(always)]
fn netfilter(call: &impl Call, hook: u16) -> Option<()> {
    let skb = followed(call, hook)?;
    let state = plain(other(call, hook)?)?;
    let (number, family) = (kernel(state, offset!(nf_state_hook))?, kernel(state, offset!(nf_state_family))?);
    seen(skb, hook, Event::netfilter_aux(number, family))
}

/// Reports a followed packet that needs its neighbour's link-layer address, and whether that is known.
#[inline(always)]
fn neighbour(call: &impl Call, hook: u16) -> Option<()> {
    let skb = followed(call, hook)?;
    let state: u8 = kernel(plain(other(call, hook)?)?, offset!(neighbour_state))?;
    seen(skb, hook, u32::from(state))
}

/// Reports a followed packet that NAT translates: source or destination.
#[inline(always)]
fn nat(call: &impl Call, hook: u16) -> Option<()> {
    let skb = followed(call, hook)?;
    seen(skb, hook, plain(other(call, hook)?)? as u32)
}

/// Reports a packet that the node itself sends. A packet that is followed already is being encapsulated: no report.
#[inline(always)]
fn local_out(call: &impl Call, hook: u16) -> Option<()> {
    let skb = plain(skb(call, hook)?)?;
    // It has no device yet, but its route has. A pod's own packets are not the node's: they begin at the pod's veth.
    let device = route::device(skb).filter(|device| device.netns == NODE_NETNS.load())?;
    let reader = SkbReader::new(skb)?;
    let class = classify::classify(&reader)?;
    let identity = identity::of(skb, &class, &reader, Moment::WITHIN)?;
    if identity.flags & flag::FIRST_SEEN == 0 {
        return None;
    }
    emit(&Sighting::of(hook, skb, &identity, &reader, device), &reader)
}

#[inline(always)]
fn skb(call: &impl Call, hook: u16) -> Option<u64> {
    number(member!(ARGUMENTS: Arguments, skb[usize::from(hook)])).and_then(|number| call.argument(number))
}

#[inline(always)]
fn other(call: &impl Call, hook: u16) -> Option<u64> {
    number(member!(ARGUMENTS: Arguments, other[usize::from(hook)])).and_then(|number| call.argument(number))
}

#[inline(always)]
fn number(argument: u8) -> Option<u8> {
    if argument == NO_ARGUMENT { None } else { Some(argument) }
}

/// The address of the sk_buff, if the packet is followed.
#[inline(always)]
fn followed(call: &impl Call, hook: u16) -> Option<u64> {
    let skb = plain(skb(call, hook)?)?;
    if identity::is_known(skb) { Some(skb) } else { None }
}

/// Emits an event for a packet in this node's stack.
#[inline(always)]
fn seen(skb: u64, hook: u16, aux: u32) -> Option<()> {
    let reader = SkbReader::new(skb)?;
    // Functions see the whole machine: pods, and perhaps other nodes. A packet that is being sent has no device yet, but
    // its route has.
    let device = reader.device().or_else(|| route::device(skb))?;
    if device.netns != NODE_NETNS.load() {
        return None;
    }
    let identity = identity::known(skb, &reader)?;
    emit_alone(&Sighting { aux, ..Sighting::of(hook, skb, &identity, &reader, device) })
}

/// `skb_clone` has returned a copy.
#[fexit]
fn fexit_skb_clone(ctx: FExitContext) -> i32 {
    let _ = copied(ctx.arg(0), ctx.arg(2));
    0
}

/// `skb_copy` has returned a copy.
#[fexit]
fn fexit_skb_copy(ctx: FExitContext) -> i32 {
    let _ = copied(ctx.arg(0), ctx.arg(2));
    0
}

/// `__pskb_copy_fclone` has returned a copy.
#[fexit]
fn fexit_pskb_copy_fclone(ctx: FExitContext) -> i32 {
    let _ = copied(ctx.arg(0), ctx.arg(4));
    0
}

/// `returned` follows the arguments in the context. The helper for it (`bpf_get_func_ret`) needs 5.17.
#[inline(always)]
fn copied(skb: u64, returned: u64) -> Option<()> {
    if enabled() && returned != 0 {
        let (skb, copy) = (plain(skb)?, plain(returned)?);
        if identity::is_known(skb) {
            identity::copied(skb, copy);
        }
    }
    Some(())
}
