//! The choice of a toolchain for the eBPF programs, from what the machine has. Pure.
//!
//! rustup's nightly comes first because it is what people who write eBPF in Rust have. Debian's `rustc-web` brings
//! a ready-made `core` for BPF and is preferred to fetching a whole nightly. The linker reads the compiler's LLVM
//! bitcode, so that its LLVM must not be the older one.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// The bpf-linker that is installed where none is found.
pub(crate) const LINKER_VERSION: &str = "0.13.0";
/// The oldest bpf-linker that will do.
const LINKER_OLDEST: (u32, u32) = (0, 13);
/// The LLVM versions that `LINKER_VERSION` can be built on.
const LINKER_LLVM: RangeInclusive<u32> = 21..=23;
/// The `rust-version` of the workspace: 1.N.
const OLDEST_MINOR: u32 = 89;
/// Debian's compiler with the core library for BPF.
pub(super) const DEBIAN_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// Where the compiler of the eBPF programs comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Route {
    /// rustup's nightly, which builds `core` from rust-src
    Rustup,
    /// Debian's rustc-web with its ready-made `core` for BPF
    Debian,
}

impl Route {
    pub(super) fn whose(self) -> &'static str {
        match self {
            Self::Rustup => "rustup's nightly",
            Self::Debian => "Debian's rustc",
        }
    }
}

/// A Rust compiler: version 1.`minor`, on LLVM `llvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compiler {
    pub(super) minor: u32,
    pub(super) llvm: u32,
}

/// A bpf-linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Linker {
    pub(super) path: PathBuf,
    pub(super) version: (u32, u32),
    /// Unknown if the program does not show what it was built on.
    pub(super) llvm: Option<u32>,
}

/// What a machine has.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    pub(super) rustup: bool,
    pub(super) nightly: Option<Compiler>,
    /// The nightly's rust-src.
    pub(super) rust_src: bool,
    /// Debian's compiler, if it has `core` for BPF.
    pub(super) debian: Option<Compiler>,
    /// In the order in which they are preferred.
    pub(super) linkers: Vec<Linker>,
    /// The Debian packages that apt can provide, among those that matter here.
    pub(super) packages: BTreeSet<String>,
    /// What was tried in vain.
    pub(super) refused: BTreeSet<Install>,
}

/// Something to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Install {
    /// A nightly by rustup, with rust-src.
    Nightly,
    /// The nightly's component rust-src.
    RustSrc,
    /// `DEBIAN_COMPILER` by apt.
    DebianCompiler,
    /// bpf-linker by cargo, on this LLVM, whose packages come by apt.
    BpfLinker { llvm: u32 },
}

impl fmt::Display for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly => f.write_str("rustup's nightly toolchain with rust-src"),
            Self::RustSrc => f.write_str("rustup's component rust-src of the nightly toolchain"),
            Self::DebianCompiler => write!(f, "Debian packages {}", DEBIAN_COMPILER.join(" ")),
            Self::BpfLinker { llvm } => write!(f, "bpf-linker {LINKER_VERSION} on LLVM {llvm}"),
        }
    }
}

/// A decision. Once nothing is left to install, compiler and linker are known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) route: Route,
    pub(super) compiler: Option<Compiler>,
    pub(super) linker: Option<Linker>,
    /// What to install, in this order, and why.
    pub(super) installs: Vec<(Install, String)>,
}

/// One way to a toolchain: a plan, or why it is closed.
type Way = fn(&Machine) -> Result<Plan, String>;

/// Chooses a route, or tells for each why it is closed.
pub(super) fn decide(machine: &Machine, forced: Option<Route>) -> Result<Plan, Vec<String>> {
    let ways: [(Route, Way); 3] =
        [(Route::Rustup, with_nightly), (Route::Debian, with_debian), (Route::Rustup, with_new_nightly)];
    let mut reasons = Vec::new();
    for (_, way) in ways.into_iter().filter(|(route, _)| forced.is_none_or(|forced| forced == *route)) {
        match way(machine) {
            Ok(plan) => return Ok(plan),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons)
}

fn with_nightly(machine: &Machine) -> Result<Plan, String> {
    let compiler = machine.nightly.ok_or("rustup has no nightly toolchain")?;
    new_enough(Route::Rustup, compiler, "`rustup update nightly` helps")?;
    let mut installs = Vec::new();
    if !machine.rust_src {
        let why = "the nightly compiler builds the core library for BPF from its source";
        installs.push(wanted(machine, Install::RustSrc, why)?);
    }
    finish(machine, Route::Rustup, compiler, installs)
}

fn with_debian(machine: &Machine) -> Result<Plan, String> {
    let Some(compiler) = machine.debian else {
        let missing: Vec<_> =
            DEBIAN_COMPILER.into_iter().filter(|name| !machine.packages.contains(*name)).collect();
        if !missing.is_empty() {
            return Err(format!(
                "Debian's compiler for BPF is not to be had here (no {})",
                missing.join(", no ")
            ));
        }
        let why = "a compiler with the core library for BPF, which compiles the eBPF programs";
        let installs = vec![wanted(machine, Install::DebianCompiler, why)?];
        return Ok(Plan { route: Route::Debian, compiler: None, linker: None, installs });
    };
    new_enough(Route::Debian, compiler, "a newer Debian release helps")?;
    finish(machine, Route::Debian, compiler, Vec::new())
}

fn with_new_nightly(machine: &Machine) -> Result<Plan, String> {
    if !machine.rustup {
        return Err("there is no rustup to fetch a nightly toolchain with".to_owned());
    }
    if machine.nightly.is_some() {
        return Err("another nightly would be no better than the one there is".to_owned());
    }
    if machine.linkers.iter().all(|linker| linker.version < LINKER_OLDEST)
        && !LINKER_LLVM.into_iter().any(|llvm| linker_can_be_built(machine, llvm))
    {
        return Err(
            "a new nightly would need bpf-linker, which is neither here nor can apt provide what builds it"
                .to_owned(),
        );
    }
    let why = "the eBPF programs need a compiler for BPF, which stable is not";
    let installs = vec![wanted(machine, Install::Nightly, why)?];
    Ok(Plan { route: Route::Rustup, compiler: None, linker: None, installs })
}

fn new_enough(route: Route, compiler: Compiler, remedy: &str) -> Result<(), String> {
    if compiler.minor < OLDEST_MINOR {
        let whose = route.whose();
        return Err(format!(
            "{whose} is 1.{}, at least 1.{OLDEST_MINOR} is needed: {remedy}",
            compiler.minor
        ));
    }
    Ok(())
}

/// `install`, unless it was tried in vain.
fn wanted(machine: &Machine, install: Install, why: &str) -> Result<(Install, String), String> {
    if machine.refused.contains(&install) {
        return Err(format!("{install} could not be installed"));
    }
    Ok((install, why.to_owned()))
}

/// Adds a linker to a compiler.
fn finish(
    machine: &Machine,
    route: Route,
    compiler: Compiler,
    mut installs: Vec<(Install, String)>,
) -> Result<Plan, String> {
    let fits = |linker: &&Linker| {
        linker.version >= LINKER_OLDEST && linker.llvm.is_some_and(|llvm| llvm >= compiler.llvm)
    };
    let linker = machine.linkers.iter().find(fits).cloned();
    if linker.is_none() {
        let llvm = LINKER_LLVM
            .filter(|llvm| *llvm >= compiler.llvm)
            .find(|llvm| linker_can_be_built(machine, *llvm))
            .ok_or_else(|| {
                format!(
                    "{} needs bpf-linker on LLVM {} or newer, and apt cannot provide what builds one",
                    route.whose(),
                    compiler.llvm,
                )
            })?;
        let why = match machine.linkers.first() {
            None => "it links the eBPF programs, and there is none".to_owned(),
            Some(Linker { path, version: (major, minor), llvm }) => format!(
                "it links the eBPF programs, and {} ({major}.{minor}, LLVM {}) is too old for LLVM {}",
                path.display(),
                llvm.map_or("unknown".to_owned(), |llvm| llvm.to_string()),
                compiler.llvm,
            ),
        };
        installs.push(wanted(machine, Install::BpfLinker { llvm }, &why)?);
    }
    Ok(Plan { route, compiler: Some(compiler), linker, installs })
}

/// Whether apt has what builds bpf-linker on this LLVM, and building it has not failed already.
fn linker_can_be_built(machine: &Machine, llvm: u32) -> bool {
    llvm_packages(llvm).iter().all(|name| machine.packages.contains(name))
        && !machine.refused.contains(&Install::BpfLinker { llvm })
}

/// The Debian packages that building bpf-linker on this LLVM takes.
pub(super) fn llvm_packages(llvm: u32) -> [String; 4] {
    [
        format!("llvm-{llvm}-dev"),
        format!("libpolly-{llvm}-dev"),
        "zlib1g-dev".to_owned(),
        "libzstd-dev".to_owned(),
    ]
}

/// Every package whose availability bears on the choice.
pub(super) fn packages_of_interest() -> BTreeSet<String> {
    LINKER_LLVM.flat_map(llvm_packages).chain(DEBIAN_COMPILER.map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHTLY: Compiler = Compiler { minor: 97, llvm: 22 };
    const DEBIAN: Compiler = Compiler { minor: 96, llvm: 22 };
    const LINK22: Install = Install::BpfLinker { llvm: 22 };

    fn linker(version: (u32, u32), llvm: Option<u32>) -> Vec<Linker> {
        vec![Linker { path: "/tools/bpf-linker".into(), version, llvm }]
    }

    /// Debian with its package lists, rustup and a stable toolchain: nothing for BPF yet.
    fn fresh() -> Machine {
        let mut packages: BTreeSet<String> = DEBIAN_COMPILER.map(str::to_owned).into();
        packages.extend(llvm_packages(22));
        Machine { rustup: true, packages, ..Machine::default() }
    }

    /// What a decision comes to: the route and what it would install, or that there is none.
    type Outcome = Option<(Route, Vec<Install>)>;
    /// What it is about, what the machine has, the forced route, and the outcome.
    type Case = (&'static str, Machine, Option<Route>, Outcome);

    fn outcome(machine: &Machine, forced: Option<Route>) -> Outcome {
        let plan = decide(machine, forced).ok()?;
        Some((plan.route, plan.installs.into_iter().map(|(install, _)| install).collect()))
    }

    #[test]
    fn choice_by_what_the_machine_has() {
        use Install::{BpfLinker, DebianCompiler, Nightly, RustSrc};
        use Route::{Debian, Rustup};

        let fit = || linker((0, 13), Some(22));
        let bare = || Machine { rustup: true, ..Machine::default() };
        let with_llvm_23 = || {
            let mut machine = fresh();
            machine.packages.extend(llvm_packages(23));
            machine
        };
        let nightly = Some(NIGHTLY);
        let newer = Some(Compiler { minor: 99, llvm: 23 });
        let ancient = Some(Compiler { minor: 80, llvm: 18 });
        let debian = Some(DEBIAN);
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("all there", Machine { nightly, rust_src: true, linkers: fit(), ..bare() }, None, Some((Rustup, vec![]))),
            ("no rust-src", Machine { nightly, linkers: fit(), ..bare() }, None, Some((Rustup, vec![RustSrc]))),
            ("nightly alone", Machine { nightly, ..fresh() }, None, Some((Rustup, vec![RustSrc, LINK22]))),
            ("rust-src refused", Machine { nightly, refused: [RustSrc].into(), ..fresh() }, None,
                Some((Debian, vec![DebianCompiler]))),
            ("rust-src refused, Debian's there", Machine { nightly, debian, refused: [RustSrc].into(), ..fresh() }, None,
                Some((Debian, vec![LINK22]))),
            ("no nightly", fresh(), None, Some((Debian, vec![DebianCompiler]))),
            ("no rustup", Machine { rustup: false, ..fresh() }, None, Some((Debian, vec![DebianCompiler]))),
            ("no nightly, Debian's there", Machine { debian, linkers: fit(), ..bare() }, None, Some((Debian, vec![]))),
            ("no nightly, no apt", Machine { linkers: fit(), ..bare() }, None, Some((Rustup, vec![Nightly]))),
            ("no nightly, no linker, no apt", bare(), None, None),
            ("no nightly, Debian's refused", Machine { refused: [DebianCompiler].into(), ..fresh() }, None,
                Some((Rustup, vec![Nightly]))),
            ("everything refused", Machine { refused: [DebianCompiler, Nightly].into(), ..fresh() }, None, None),
            ("nightly too old", Machine { nightly: ancient, rust_src: true, ..fresh() }, None,
                Some((Debian, vec![DebianCompiler]))),
            ("linker too old", Machine { nightly, rust_src: true, linkers: linker((0, 12), Some(22)), ..fresh() }, None,
                Some((Rustup, vec![LINK22]))),
            ("linker's LLVM too old", Machine { nightly, rust_src: true, linkers: linker((0, 13), Some(21)), ..fresh() },
                None, Some((Rustup, vec![LINK22]))),
            ("linker's LLVM unknown", Machine { nightly, rust_src: true, linkers: linker((0, 14), None), ..fresh() },
                None, Some((Rustup, vec![LINK22]))),
            ("linker newer", Machine { nightly, rust_src: true, linkers: linker((1, 0), Some(23)), ..fresh() }, None,
                Some((Rustup, vec![]))),
            ("no LLVM for the nightly", Machine { nightly: newer, rust_src: true, ..fresh() }, None,
                Some((Debian, vec![DebianCompiler]))),
            ("LLVM for the nightly", Machine { nightly: newer, rust_src: true, ..with_llvm_23() }, None,
                Some((Rustup, vec![BpfLinker { llvm: 23 }]))),
            ("linker refused on 22, not on 23", Machine { nightly, rust_src: true, refused: [LINK22].into(),
                ..with_llvm_23() }, None, Some((Rustup, vec![BpfLinker { llvm: 23 }]))),
            ("no linker, no apt", Machine { nightly, rust_src: true, ..bare() }, None, None),
            ("Debian forced", Machine { nightly, rust_src: true, linkers: fit(), ..fresh() }, Some(Debian),
                Some((Debian, vec![DebianCompiler]))),
            ("Debian forced, not to be had", Machine { nightly, rust_src: true, linkers: fit(), ..bare() },
                Some(Debian), None),
            ("rustup forced", Machine { debian, linkers: fit(), ..fresh() }, Some(Rustup),
                Some((Rustup, vec![Nightly]))),
            ("rustup forced, rust-src refused", Machine { nightly, debian, linkers: fit(), refused: [RustSrc].into(),
                ..fresh() }, Some(Rustup), None),
        ];
        for (name, machine, forced, expected) in cases {
            assert_eq!(outcome(machine, *forced), *expected, "{name}");
        }
    }

    #[test]
    fn a_plan_without_installs_is_complete() {
        let machine = Machine {
            rustup: true,
            nightly: Some(NIGHTLY),
            rust_src: true,
            linkers: [linker((0, 12), Some(22)), linker((0, 13), Some(22))].concat(),
            ..Machine::default()
        };
        let plan = decide(&machine, None).unwrap();
        assert_eq!(plan.compiler, Some(NIGHTLY));
        assert_eq!(plan.linker.map(|linker| linker.version), Some((0, 13)), "the first that fits");
    }

    #[test]
    fn every_closed_route_has_its_reason() {
        let reasons = decide(&Machine::default(), None).unwrap_err();
        assert_eq!(
            reasons,
            [
                "rustup has no nightly toolchain",
                "Debian's compiler for BPF is not to be had here (no rustc-web, no cargo-web, no libstd-rust-web-dev-bpf)",
                "there is no rustup to fetch a nightly toolchain with",
            ]
        );
    }

    #[test]
    fn an_install_says_why() {
        let machine = Machine { linkers: linker((0, 13), Some(21)), nightly: Some(NIGHTLY), ..fresh() };
        let why: Vec<_> = decide(&machine, None).unwrap().installs.into_iter().map(|(_, why)| why).collect();
        assert_eq!(
            why,
            [
                "the nightly compiler builds the core library for BPF from its source",
                "it links the eBPF programs, and /tools/bpf-linker (0.13, LLVM 21) is too old for LLVM 22",
            ]
        );
    }
}
