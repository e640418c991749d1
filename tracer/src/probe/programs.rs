//! The loaded and attached kernel programs of one node, from configuration to detaching.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf},
    programs::{Program, ProgramError, RawTracePoint, SchedClassifier, tc::SchedClassifierLink},
};
use tracer_common::{Address, Arguments, Counters, Filter, PORTS, filter_flag, side};

use super::{
    attach::{self, Attachment, TcMode},
    btf::Btf,
    ledger::Ledger,
    object,
    offsets::{drop_reasons, offsets},
    refusal::refused,
    stack::{self, Prototypes, StackLink},
    taps::taps,
};
use podtrace_protocol::frame::{Attached, FilterSpec, HookState, Side};
use podtrace_protocol::topology::{DeviceKind, Topology};

/// Where the kernel keeps its type information, and the variable that names another place.
const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";
const BTF_VARIABLE: &str = "PODTRACE_BTF";

/// What to trace, and where.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// The packets of interest.
    pub filter: &'a FilterSpec,
    /// The node's networking.
    pub topology: &'a Topology,
    /// Full names of the pods whose veths are tapped.
    pub tapped: &'a [String],
    /// The node's own addresses.
    pub node_addresses: &'a [IpAddr],
    /// How tc programs are attached.
    pub mode: TcMode,
    /// Whether anybody still wants this: loading and attaching take long enough for a tracer to be killed.
    pub wanted: &'a dyn Fn() -> bool,
}

/// Kernel programs in place. Dropping it detaches them.
pub struct Tracer {
    taps: Vec<SchedClassifierLink>,
    /// Where they are: a device's index, and its side.
    tapped: BTreeSet<(u32, &'static str)>,
    /// The addresses of both ends in the kernel's map.
    ends: BTreeMap<Address, u32>,
    stack: Vec<StackLink>,
    /// `None` once detached.
    ebpf: Option<Ebpf>,
    ledger: Option<Ledger>,
    enabled: Array<MapData, u32>,
    counters: PerCpuArray<MapData, Counters>,
}

impl Tracer {
    /// Loads the programs and attaches them; they stay silent until [`Self::enable`].
    ///
    /// # Errors
    ///
    /// If there is no BTF, the kernel refuses the programs, or no tap can be attached.
    pub fn attach(settings: &Settings<'_>) -> Result<(Self, RingBuf<MapData>, Attached)> {
        let wanted = || if (settings.wanted)() { Ok(()) } else { Err(anyhow!("the tracer is gone")) };
        let path = std::env::var(BTF_VARIABLE).unwrap_or_else(|_| BTF_PATH.to_owned());
        let bytes = std::fs::read(&path).with_context(|| {
            format!(
                "reading the kernel's type information {path}: podtrace needs a kernel built with \
                 CONFIG_DEBUG_INFO_BTF, or its BTF in a file that {BTF_VARIABLE} names"
            )
        })?;
        let btf = Btf::parse(&bytes).with_context(|| format!("reading {path}"))?;
        let (offsets, missing) = offsets(&btf);
        let prototypes = Prototypes::read(&btf);
        let arguments = prototypes.arguments.unwrap_or(Arguments::NONE);
        let mut hooks = Vec::new();

        raise_memlock();
        let node = settings.topology.namespaces.first().context("the node's own namespace was not read")?;
        let (filter, note) = kernel_filter(settings);
        let mut ebpf = EbpfLoader::new()
            // The programs have nothing to relocate, and reading all of the kernel's types for it takes its time.
            .btf(None)
            .override_global("FILTER", &filter, true)
            .override_global("OFFSETS", &offsets, true)
            .override_global("ARGUMENTS", &arguments, true)
            .override_global("NODE_NETNS", &node.inode, true)
            .load(object::object()?)
            .context("creating the kernel programs' maps")?;
        let ends = fill(&mut ebpf, settings)?;

        let swept = Ledger::sweep()?;
        let enabled = Array::try_from(take(&mut ebpf, "ENABLED")?)?;
        let counters = PerCpuArray::try_from(take(&mut ebpf, "COUNTERS")?)?;
        let ring = RingBuf::try_from(take(&mut ebpf, "EVENTS")?)?;
        // From here on, whatever goes wrong, dropping this takes away what was attached.
        let mut tracer = Self {
            taps: Vec::new(),
            tapped: BTreeSet::new(),
            ends,
            stack: Vec::new(),
            ebpf: Some(ebpf),
            ledger: Some(Ledger::default()),
            enabled,
            counters,
        };
        let ebpf = tracer.ebpf.as_mut().context("nothing is loaded")?;
        for program in attach::TC_PROGRAMS {
            let program: &mut SchedClassifier = program_mut(ebpf, program)?;
            wanted()?;
            program.load().map_err(refused)?;
        }
        hooks.extend(tracer.tap(settings)?);
        let ebpf = tracer.ebpf.as_mut().context("nothing is loaded")?;
        wanted()?;
        hooks.push(attach_drops(ebpf, &btf, &missing));
        hooks.push(attach_queues(ebpf));
        wanted()?;
        let (links, states) = stack::attach(ebpf.programs_mut(), &prototypes);
        tracer.stack = links;
        hooks.extend(states);

        let reasons = drop_reasons(&btf);
        Ok((
            tracer,
            ring,
            Attached { hooks, notes: note.into_iter().chain(swept).collect(), drop_reasons: reasons },
        ))
    }

    /// Puts taps where they are to be and are not yet.
    fn tap(&mut self, settings: &Settings<'_>) -> Result<Vec<HookState>> {
        let (Some(ebpf), Some(ledger)) = (&mut self.ebpf, &mut self.ledger) else {
            bail!("nothing is loaded")
        };
        let mut hooks = Vec::new();
        for tap in taps(settings.topology, settings.tapped, settings.node_addresses) {
            if !(settings.wanted)() {
                bail!("the tracer is gone");
            }
            let place = (tap.ifindex, tap.side.point());
            if self.tapped.contains(&place) {
                continue;
            }
            let program: &mut SchedClassifier = program_mut(ebpf, tap.program)?;
            let state = match attach::attach(program, &tap, settings.mode, ledger) {
                Ok(Attachment { how, note, link }) => {
                    self.taps.push(link);
                    self.tapped.insert(place);
                    (Some(how.to_owned()), note)
                }
                Err(error) => (None, Some(format!("{error:#}"))),
            };
            hooks.push(HookState {
                point: tap.side.point().to_owned(),
                device: Some(tap.device.clone()),
                how: state.0,
                note: state.1,
                instructions: ebpf.program(tap.program).and_then(instructions),
            });
        }
        ledger.share();
        Ok(hooks)
    }

    /// Traces from here on what these settings say: taps devices that are new, and looks for other addresses. What
    /// the programs were loaded with stays. Returns the hooks that are new.
    ///
    /// # Errors
    ///
    /// If nothing is loaded, or a map cannot be written.
    pub fn update(&mut self, settings: &Settings<'_>) -> Result<Vec<HookState>> {
        let node = settings.topology.namespaces.first().context("the node's own namespace was not read")?;
        // The number of a device that is gone may be another's one day.
        self.tapped.retain(|(index, _)| node.device(*index).is_some());
        let hooks = self.tap(settings)?;
        let ebpf = self.ebpf.as_mut().context("nothing is loaded")?;
        add_namespaces(ebpf, settings.topology)?;
        fill_node_ports(ebpf, settings.filter)?;
        let ends = ends(settings.filter);
        let mut map: HashMap<_, Address, u32> = map_mut(ebpf, "ADDRESSES")?.try_into()?;
        for (address, sides) in &ends {
            let via = map.get(address, 0).unwrap_or(0) & side::VIA;
            map.insert(address, sides | via, 0).context(ADDRESSES_FULL)?;
        }
        for address in self.ends.keys().filter(|address| !ends.contains_key(*address)) {
            if map.get(address, 0).unwrap_or(0) & side::VIA != 0 {
                map.insert(address, side::VIA, 0).context(ADDRESSES_FULL)?;
            } else {
                map.remove(address).context("removing an address that is not traced any more")?;
            }
        }
        self.ends = ends;
        Ok(hooks)
    }

    /// Takes addresses of nodes, for which the ends of packets of interest may be translated.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn add_via(&mut self, addresses: &[IpAddr]) -> Result<()> {
        let ebpf = self.ebpf.as_mut().context("nothing is loaded")?;
        let mut map: HashMap<_, Address, u32> = map_mut(ebpf, "ADDRESSES")?.try_into()?;
        for address in addresses {
            let address = mapped(*address);
            let sides = map.get(&address, 0).unwrap_or(0);
            map.insert(address, sides | side::VIA, 0)
                .context("storing the nodes' addresses (at most 4096)")?;
        }
        Ok(())
    }

    /// Begins or ends the emitting of events.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn enable(&mut self, enabled: bool) -> Result<()> {
        self.enabled.set(0, u32::from(enabled), 0).context("switching the kernel programs")
    }

    /// Sums the kernel programs' counters over all CPUs.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        let per_cpu = self.counters.get(&0, 0).context("reading the kernel programs' counters")?;
        Ok(per_cpu.iter().fold(Counters::default(), |sum, cpu| Counters {
            produced: sum.produced + cpu.produced,
            lost_ring: sum.lost_ring + cpu.lost_ring,
            lost_map: sum.lost_map + cpu.lost_map,
        }))
    }

    /// How often the kernel skipped one of the programs because it was already running on that CPU. 0 on
    /// kernels that do not count this (before 5.12).
    #[must_use]
    pub fn missed(&self) -> u64 {
        use std::os::fd::{AsFd as _, AsRawFd as _};
        let misses = |fd: i32| -> Option<u64> {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            let count = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
            count.trim().parse().ok()
        };
        let programs = self.ebpf.iter().flat_map(Ebpf::programs);
        programs.filter_map(|(_, program)| misses(program.fd().ok()?.as_fd().as_raw_fd())).sum()
    }

    /// Detaches everything. Maps stay readable for [`Self::counters`].
    pub fn detach(&mut self) {
        // Filters go before the qdiscs they sit on.
        attach::detach(std::mem::take(&mut self.taps));
        attach::detach(std::mem::take(&mut self.stack));
        self.ebpf = None;
        if let Some(ledger) = self.ledger.take() {
            ledger.close();
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.detach();
    }
}

/// The filter in the kernel's terms, and what could not be said in them.
fn kernel_filter(settings: &Settings<'_>) -> (Filter, Option<String>) {
    let FilterSpec { from, to, protocol, one_way } = settings.filter;
    let bit = |condition: bool, bit: u32| if condition { bit } else { 0 };
    let devices =
        settings.topology.namespaces.first().map(|node| node.devices.as_slice()).unwrap_or_default();
    let mut ports: Vec<u16> = devices
        .iter()
        .filter_map(
            |device| if let DeviceKind::Vxlan(vxlan) = &device.kind { Some(vxlan.port) } else { None },
        )
        .collect();
    ports.sort_unstable();
    ports.dedup();
    let note = (ports.len() > 1)
        .then(|| format!("VXLAN devices use several UDP ports {ports:?}: only {} is looked into", ports[0]));
    let filter = Filter {
        flags: bit(from.addresses.is_empty(), filter_flag::FROM_ANY)
            | bit(to.addresses.is_empty(), filter_flag::TO_ANY)
            | bit(*one_way, filter_flag::ONE_WAY)
            | bit(!(from.node_ports.is_empty() && to.node_ports.is_empty()), filter_flag::NODE_PORTS),
        protocol: protocol.map_or(0, u32::from),
        from_ports: ports_of(from),
        to_ports: ports_of(to),
        vxlan_port: ports.first().copied().unwrap_or(0),
        reserved: 0,
    };
    (filter, note)
}

/// The ports of a side; all of them if there are more than fit.
fn ports_of(side: &Side) -> [u16; PORTS] {
    let mut ports = [0; PORTS];
    if side.ports.len() <= PORTS {
        for (port, wanted) in ports.iter_mut().zip(&side.ports) {
            *port = *wanted;
        }
    }
    ports
}

/// What is wrong if an address does not fit.
const ADDRESSES_FULL: &str = "storing the addresses to trace (at most 4096)";

/// The addresses of both ends, and which sides they are on.
fn ends(filter: &FilterSpec) -> BTreeMap<Address, u32> {
    let mut sides = BTreeMap::<Address, u32>::new();
    for (addresses, side) in [(&filter.from.addresses, side::FROM), (&filter.to.addresses, side::TO)] {
        for address in addresses {
            *sides.entry(mapped(*address)).or_default() |= side;
        }
    }
    sides
}

/// Fills the maps that the filter looks into. Returns the addresses of both ends.
fn fill(ebpf: &mut Ebpf, settings: &Settings<'_>) -> Result<BTreeMap<Address, u32>> {
    let ends = ends(settings.filter);
    let mut map: HashMap<_, Address, u32> = map_mut(ebpf, "ADDRESSES")?.try_into()?;
    for (address, side) in &ends {
        map.insert(address, side, 0).context(ADDRESSES_FULL)?;
    }
    fill_node_ports(ebpf, settings.filter)?;
    add_namespaces(ebpf, settings.topology)?;
    Ok(ends)
}

fn fill_node_ports(ebpf: &mut Ebpf, filter: &FilterSpec) -> Result<()> {
    let mut ports = BTreeMap::<u32, u32>::new();
    for (of, side) in [(&filter.from, side::FROM), (&filter.to, side::TO)] {
        for (protocol, port) in &of.node_ports {
            *ports.entry(u32::from(*protocol) << 16 | u32::from(*port)).or_default() |= side;
        }
    }
    let mut map: HashMap<_, u32, u32> = map_mut(ebpf, "NODE_PORTS")?.try_into()?;
    for (port, side) in ports {
        map.insert(port, side, 0).context("storing the node ports to trace (at most 4096)")?;
    }
    Ok(())
}

fn add_namespaces(ebpf: &mut Ebpf, topology: &Topology) -> Result<()> {
    let mut map: HashMap<_, u32, u32> = map_mut(ebpf, "NAMESPACES")?.try_into()?;
    for namespace in &topology.namespaces {
        map.insert(namespace.inode, 1, 0).context("storing the node's namespaces (at most 4096)")?;
    }
    Ok(())
}

fn mapped(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .octets()
}

/// Attaches the drop tracepoint, in the variant that this kernel has.
fn attach_drops(ebpf: &mut Ebpf, btf: &Btf<'_>, missing: &[String]) -> HookState {
    if !missing.is_empty() {
        let note = format!("drops cannot be seen: this kernel's BTF lacks {}", missing.join(", "));
        return HookState { note: Some(note), ..HookState::absent("tp:kfree_skb") };
    }
    let has_reason = btf.tracepoint_arguments("kfree_skb").is_some_and(|arguments| arguments >= 3);
    let name = if has_reason { "podtrace_drop" } else { "podtrace_drop_unreasoned" };
    let mut state = attach_tracepoint(ebpf, name, "kfree_skb", "drops cannot be seen");
    if state.how.is_some() && !has_reason {
        state.note = Some("this kernel tells no drop reasons (5.17 and later do)".to_owned());
    }
    state
}

/// Attaches the tracepoint by which packets leave a device's queue.
fn attach_queues(ebpf: &mut Ebpf) -> HookState {
    attach_tracepoint(ebpf, "podtrace_queued", "net_dev_start_xmit", "time in queues is not told")
}

fn attach_tracepoint(ebpf: &mut Ebpf, name: &str, tracepoint: &str, without: &str) -> HookState {
    let mut state = HookState::absent(&format!("tp:{tracepoint}"));
    let attached = program_mut::<RawTracePoint>(ebpf, name).and_then(|program| {
        program.load().map_err(refused)?;
        program.attach(tracepoint).with_context(|| format!("attaching to the tracepoint {tracepoint}"))
    });
    match attached {
        Ok(_) => {
            state.how = Some("raw_tracepoint".to_owned());
            state.instructions = ebpf.program(name).and_then(instructions);
        }
        Err(error) => state.note = Some(format!("{without}: {error:#}")),
    }
    state
}

/// Instructions that the verifier went through, where the kernel counts them (5.16).
pub(super) fn instructions(program: &Program) -> Option<u32> {
    program.info().ok()?.verified_instruction_count()
}

fn program_mut<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program =
        ebpf.program_mut(name).with_context(|| format!("the kernel object has no program {name}"))?;
    Ok(program.try_into()?)
}

fn map_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name).with_context(|| format!("the kernel object has no map {name}"))
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the kernel object has no map {name}"))
}

/// Kernels before 5.11 charge maps to this limit. Where it cannot be raised, newer ones do not need it.
fn raise_memlock() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_addresses_are_mapped_as_the_kernel_side_maps_them() {
        let v4 = mapped("10.42.0.10".parse().unwrap());
        assert_eq!(v4, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 42, 0, 10]);
        let v6: std::net::Ipv6Addr = "fd00::1".parse().unwrap();
        assert_eq!(mapped(v6.into()), v6.octets());
    }
}
