//! The eBPF programs of one node: loading, attaching, updating, detaching.
//!
//! A *hook* is any place in the kernel that a program is attached to. A *tap* is the hook of a tc program: one side of
//! one device.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, RingBuf},
    programs::{Program, ProgramError, SchedClassifier, tc::SchedClassifierLink},
};
use podtrace_protocol::frame::{Attached, FilterSpec, HookState};
use podtrace_protocol::topology::{Namespace, Topology};
use tracer_common::{Counters, Filter, Offsets};

use super::{
    btf::Btf,
    filter,
    functions::{self, FunctionLink},
    ledger::Ledger,
    maps::Maps,
    object,
    offsets::{drop_reasons, offsets},
    prototypes::Prototypes,
    stats::Counted,
    taps::{Tap, TapSide, TcProgram, taps},
    tc::{self, Attachment, TcMode},
    tracepoints,
    verifier::verifier_error,
};

/// Where the kernel publishes its BTF.
const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Environment variable that names another file with the kernel's BTF.
const BTF_VARIABLE: &str = "PODTRACE_BTF";

/// What to trace, and where.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// Which packets.
    pub filter: &'a FilterSpec,
    /// The node's networking; the first namespace is the host's.
    pub topology: &'a Topology,
    /// `NAMESPACE/NAME` of the pods whose veths get a tc hook.
    pub tapped: &'a [String],
    /// The node's own addresses.
    pub node_addresses: &'a [IpAddr],
    /// How tc programs are attached.
    pub mode: TcMode,
    /// Whether the session is still open. Checked between steps, because loading takes seconds.
    pub session_is_open: &'a dyn Fn() -> bool,
}

impl<'a> Settings<'a> {
    fn host_namespace(&self) -> Result<&'a Namespace> {
        self.topology.namespaces.first().context("the topology has no namespace of the node itself")
    }

    fn ensure_session_is_open(&self) -> Result<()> {
        ensure!((self.session_is_open)(), "the tracing session ended while programs were loading");
        Ok(())
    }
}

/// Loaded and attached eBPF programs. Dropping it detaches them.
pub struct AttachedPrograms {
    maps: Maps,
    /// `None` once detached.
    programs: Option<Programs>,
}

/// Owns everything that detaching removes.
struct Programs {
    ebpf: Ebpf,
    taps: Vec<SchedClassifierLink>,
    /// Attached taps: the device's index and the side.
    attached_taps: BTreeSet<(u32, TapSide)>,
    functions: Vec<FunctionLink>,
    /// Which clsact qdiscs and filters to remove, also on disk for the next start.
    ledger: Ledger,
}

impl AttachedPrograms {
    /// Loads the programs and attaches them. They emit nothing until [`Self::enable`].
    ///
    /// # Errors
    ///
    /// If the kernel has no BTF, a map or tc program cannot be created, no tap can be attached, or the session ends
    /// meanwhile. Any other hook that cannot be attached is not an error; its [`HookState`] has the reason.
    pub fn attach(settings: &Settings<'_>) -> Result<(Self, RingBuf<MapData>, Attached)> {
        let bytes = read_btf()?;
        let btf = Btf::parse(&bytes).context("parsing the kernel's BTF")?;
        let (offsets, missing) = offsets(&btf);
        let prototypes = Prototypes::read(&btf);
        let (filter, warning) = filter::constants(settings.filter, settings.host_namespace()?);
        let mut ebpf = create_maps(settings, &filter, &offsets, &prototypes)?;
        let (mut maps, ring) = Maps::take(&mut ebpf, settings.filter)?;
        maps.set_filter(settings.filter, settings.topology)?;
        let removed = Ledger::remove_stale()?;

        // From here on an early return drops `programs`, which detaches what was attached.
        let mut programs = Programs::new(ebpf);
        programs.load_tc(settings)?;
        let mut hooks = programs.attach_taps(settings)?;
        ensure_some_tap(&hooks)?;
        maps.stats.enter(programs.places())?;
        settings.ensure_session_is_open()?;
        hooks.push(tracepoints::attach_drops(&mut programs.ebpf, &btf, &missing));
        hooks.push(tracepoints::attach_frees(&mut programs.ebpf));
        settings.ensure_session_is_open()?;
        // These have nothing to count: what they report are events.
        if !settings.filter.stats {
            hooks.push(tracepoints::attach_queues(&mut programs.ebpf));
            hooks.extend(programs.attach_functions(&prototypes));
        }

        let notes = warning.into_iter().chain(removed).collect();
        let attached = Attached { hooks, notes, drop_reasons: drop_reasons(&btf) };
        Ok((Self { maps, programs: Some(programs) }, ring, attached))
    }

    /// Changes a running trace: attaches taps to new devices and replaces the filter's addresses. Ports, protocol, the
    /// sample and which ends are `any` were compiled in as constants, and cannot change. Returns the new hooks.
    ///
    /// # Errors
    ///
    /// If the programs are detached already, or a map cannot be written.
    pub fn update(&mut self, settings: &Settings<'_>) -> Result<Vec<HookState>> {
        let host = settings.host_namespace()?;
        let Some(programs) = &mut self.programs else { bail!("the eBPF programs are detached") };
        // A new device may get the index of one that was removed.
        programs.attached_taps.retain(|(index, _)| host.device(*index).is_some());
        let hooks = programs.attach_taps(settings)?;
        self.maps.stats.enter(programs.places())?;
        self.maps.set_filter(settings.filter, settings.topology)?;
        Ok(hooks)
    }

    /// Adds the nodes' addresses that SNAT or DNAT may put in place of a traced address.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn add_nat_addresses(&mut self, addresses: &[IpAddr]) -> Result<()> {
        self.maps.add_nat_addresses(addresses)
    }

    /// Enables or disables events.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn enable(&mut self, enabled: bool) -> Result<()> {
        self.maps.enable(enabled)
    }

    /// Has the programs wake the reader of the ring buffer again when much is in it. They do so once, so that a reader that
    /// is behind is not woken by every event.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn expect_wake_up(&mut self) -> Result<()> {
        self.maps.expect_wake_up()
    }

    /// The programs' counters, summed over all CPUs. They stay readable after [`Self::detach`].
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        self.maps.counters()
    }

    /// What was counted in place of events, of devices by index and of namespaces by inode.
    ///
    /// # Errors
    ///
    /// If a map cannot be read.
    pub fn stats(&self) -> Result<Counted> {
        self.maps.stats.read()
    }

    /// How often the kernel skipped a program because it was already running on that CPU. 0 on kernels that do not count
    /// this (before 5.12), and after [`Self::detach`].
    #[must_use]
    pub fn recursion_misses(&self) -> u64 {
        let programs = self.programs.iter().flat_map(|programs| programs.ebpf.programs());
        programs.filter_map(|(_, program)| recursion_misses(program)).sum()
    }

    /// Detaches all programs.
    pub fn detach(&mut self) {
        self.programs = None;
    }
}

impl Programs {
    fn new(ebpf: Ebpf) -> Self {
        Self {
            ebpf,
            taps: Vec::new(),
            attached_taps: BTreeSet::new(),
            functions: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    fn load_tc(&mut self, settings: &Settings<'_>) -> Result<()> {
        for tap_program in TcProgram::ALL {
            settings.ensure_session_is_open()?;
            program::<SchedClassifier>(&mut self.ebpf, tap_program.name())?.load().map_err(verifier_error)?;
        }
        Ok(())
    }

    /// Attaches the taps that are not attached yet.
    fn attach_taps(&mut self, settings: &Settings<'_>) -> Result<Vec<HookState>> {
        let mut hooks = Vec::new();
        for tap in taps(settings.topology, settings.tapped, settings.node_addresses) {
            settings.ensure_session_is_open()?;
            if !self.attached_taps.contains(&(tap.ifindex, tap.side)) {
                hooks.extend(self.attach_tap(&tap, settings.mode)?);
            }
        }
        self.ledger.downgrade_lock();
        Ok(hooks)
    }

    /// `None` if the device was removed meanwhile.
    fn attach_tap(&mut self, tap: &Tap, mode: TcMode) -> Result<Option<HookState>> {
        let program: &mut SchedClassifier = program(&mut self.ebpf, tap.program.name())?;
        let (method, note) = match tc::attach(program, tap, mode, &mut self.ledger) {
            Ok(Attachment { how, note, link }) => {
                self.taps.push(link);
                self.attached_taps.insert((tap.ifindex, tap.side));
                (Some(how), note)
            }
            Err(_) if !tap.device_exists() => return Ok(None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Ok(Some(HookState {
            point: tap.side.point().to_owned(),
            device: Some(tap.device.clone()),
            mechanism: method,
            note,
            instructions: self.ebpf.program(tap.program.name()).and_then(verified_instructions),
        }))
    }

    /// Where packets are counted: the attached taps.
    fn places(&self) -> impl Iterator<Item = (u32, TapSide)> {
        self.attached_taps.iter().copied()
    }

    fn attach_functions(&mut self, prototypes: &Prototypes) -> Vec<HookState> {
        let (links, states) = functions::attach(self.ebpf.programs_mut(), prototypes);
        self.functions = links;
        states
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        // Filters go before the qdiscs they are attached to.
        tc::detach(std::mem::take(&mut self.taps));
        tc::detach(std::mem::take(&mut self.functions));
        std::mem::take(&mut self.ledger).remove_all();
    }
}

/// Refuses to trace without any tap: the trace would be empty and look complete.
fn ensure_some_tap(taps: &[HookState]) -> Result<()> {
    let Some(first) = taps.first() else {
        bail!("found no device to watch: neither a traced pod's veth nor a bridge, tunnel or uplink");
    };
    if taps.iter().all(|tap| tap.mechanism.is_none()) {
        let device = first.device.as_deref().unwrap_or_default();
        let note = first.note.as_deref().unwrap_or("for an unknown reason");
        bail!("could not watch any of {} points, such as {device} {}: {note}", taps.len(), first.point);
    }
    Ok(())
}

fn read_btf() -> Result<Vec<u8>> {
    let path = std::env::var(BTF_VARIABLE).unwrap_or_else(|_| BTF_PATH.to_owned());
    std::fs::read(&path).with_context(|| {
        format!(
            "reading the kernel's BTF from {path}: podtrace needs a kernel with CONFIG_DEBUG_INFO_BTF, or a file \
             with its BTF named by {BTF_VARIABLE}"
        )
    })
}

/// Sets the programs' constants and creates their maps. Programs are verified later, when each is loaded.
fn create_maps(
    settings: &Settings<'_>,
    filter: &Filter,
    offsets: &Offsets,
    prototypes: &Prototypes,
) -> Result<Ebpf> {
    raise_memlock();
    let addresses = filter::addresses(settings.filter).len();
    EbpfLoader::new()
        .map_max_entries("ADDRESSES", entries(addresses))
        .map_max_entries("NODE_PORTS", entries(filter::node_ports(settings.filter).len()))
        .map_max_entries("TAP_COUNTS", if settings.filter.stats { PLACES } else { 1 })
        .map_max_entries("NAMESPACES", entries(settings.topology.namespaces.len()))
        // The programs have no CO-RE relocations, so aya need not parse the kernel's BTF, which is slow.
        .btf(None)
        .override_global("FILTER", filter, true)
        .override_global("STATS", &u32::from(settings.filter.stats), true)
        .override_global("SAMPLE", &filter::sample(settings.filter), true)
        .override_global("OFFSETS", offsets, true)
        .override_global("ARGUMENTS", &prototypes.arguments, true)
        .override_global("NODE_NETNS", &settings.host_namespace()?.inode, true)
        .load(object::object()?)
        .context("creating the eBPF programs' maps")
}

/// Places that are counted at most: those of a thousand devices. Each takes half a kilobyte for each CPU, once it is entered.
const PLACES: u32 = 1 << 13;

/// Entries of a map that is to hold so many: with room for what updates add, and for the addresses of a large cluster's nodes.
/// At some 80 bytes each, the least is 1 MiB.
fn entries(number: usize) -> u32 {
    const LEAST: u32 = 1 << 14;
    u32::try_from(number.saturating_mul(4)).unwrap_or(u32::MAX).clamp(LEAST, 1 << 24)
}

/// Kernels before 5.11 charge maps to this limit. Newer ones do not, so failing to raise it is no error.
fn raise_memlock() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

/// A program of the object, by name.
pub(super) fn program<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program =
        ebpf.program_mut(name).with_context(|| format!("the kernel object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// Instructions that the verifier processed, on kernels that report it (5.16).
pub(super) fn verified_instructions(program: &Program) -> Option<u32> {
    program.info().ok()?.verified_instruction_count()
}

fn recursion_misses(program: &Program) -> Option<u64> {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let count = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
    count.trim().parse().ok()
}
