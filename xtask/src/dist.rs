//! `cargo xtask dist`: everything that a release consists of, made on this machine and published nowhere.
//!
//! For each processor: `compile` makes the binary, `stage` what goes beside it (`crates` says what is linked, for `licences`
//! and `sbom`, and `audit` compares it with what the binary says itself), `tarball` and `package` pack it, `image` is what agents
//! run in. `sums` lists what came out, `trial` installs it, and `verify` makes it all again
//! elsewhere.

mod audit;
mod compile;
mod crates;
mod epoch;
mod image;
mod krew;
mod licences;
mod package;
mod sbom;
mod stage;
mod sums;
mod tarball;
mod trial;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::image::Shipped;
use crate::architecture::Architecture;
use crate::toolchain::{Route, Toolchain};
use crate::{root, workspace};

/// How many bytes the binary may have: 15 MiB.
const LARGEST: u64 = 15 << 20;

#[derive(Args)]
pub(crate) struct Options {
    /// Build for this processor only; may be repeated
    #[arg(long = "arch", value_name = "ARCH", value_enum)]
    architectures: Vec<Architecture>,
    /// Make no image of agents, for which Debian's packages are fetched
    #[arg(long)]
    no_image: bool,
    /// What the image is called where a release publishes it, without a tag
    #[arg(long, value_name = "NAME", default_value = image::LOCAL)]
    image_name: String,
    /// Install what was made into an empty root, trace there, upgrade and remove it (root)
    #[arg(long = "try")]
    tried: bool,
    /// Build a second time in another folder, and compare byte for byte; needs a checkout without changes
    #[arg(long)]
    verify: bool,
}

impl Options {
    /// These options as they are typed, without those that only look at what was made.
    fn arguments(&self) -> Vec<&str> {
        let architectures = self.architectures().iter().flat_map(|this| ["--arch", this.name()]);
        let image = ["--image-name", &self.image_name];
        architectures.chain(image).chain(self.no_image.then_some("--no-image")).collect()
    }

    fn architectures(&self) -> &[Architecture] {
        if self.architectures.is_empty() { &Architecture::ALL } else { &self.architectures }
    }
}

pub(crate) fn run(options: &Options, route: Option<Route>) -> Result<ExitCode> {
    if options.verify {
        verify::ensure_unchanged()?;
    }
    ensure!(
        !options.tried || root::is_root(),
        "--try mounts and traces, which needs root: run this command as root"
    );
    let made_at = epoch::of_sources()?;
    let toolchain = Toolchain::provide(route)?;
    let output = output();
    clear(&output)?;
    let (mut packed, mut missing) = (Vec::new(), Vec::new());
    // Manual and completions are printed by a podtrace that runs here.
    let here = Architecture::of_this_machine()
        .with_context(|| format!("podtrace is not shipped for {}", std::env::consts::ARCH))?;
    let speaker = compile::binary(here, &toolchain)?;
    for &architecture in options.architectures() {
        let compiled = if architecture == here {
            Ok(speaker.clone())
        } else {
            compile::binary(architecture, &toolchain)
        };
        let made = compiled.and_then(|binary| {
            pack(architecture, &binary, &speaker, made_at, &output)?;
            Ok(binary)
        });
        match made {
            Ok(binary) => packed.push((architecture, binary)),
            Err(error) => {
                eprintln!("warning: nothing for {}: {error:#}", architecture.name());
                missing.push(architecture.name());
            }
        }
    }
    if !options.no_image && !packed.is_empty() {
        let shipped = |(architecture, binary): &(_, PathBuf)| Shipped {
            architecture: *architecture,
            binary: binary.clone(),
        };
        let shipped: Vec<_> = packed.iter().map(shipped).collect();
        let digest = image::make(&shipped, &options.image_name, made_at, &output)?;
        let image = format!("{}@{digest}", options.image_name);
        let name = format!("podtrace-{}-agents.yaml", env!("CARGO_PKG_VERSION"));
        write(&output.join(name), &stage::printed(&speaker, &["manifest", "--image", &image])?)?;
    }
    if missing.is_empty() && packed.len() == Architecture::ALL.len() {
        krew::write(&output)?;
    }
    sums::write(&output)?;
    show(&output)?;
    ensure!(missing.is_empty(), "nothing was made for {}", missing.join(", "));
    if options.tried {
        trial::run(here, &packed, &output)?;
    }
    if options.verify {
        verify::again(options, made_at, &output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where everything is put.
fn output() -> PathBuf {
    workspace::target_dir().join("dist")
}

/// Empties the folder: what an earlier build left would be shipped with this one.
fn clear(folder: &Path) -> Result<()> {
    let about = || format!("cannot empty {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(about)?;
    }
    fs::create_dir_all(folder).with_context(about)
}

/// Makes all packages for one processor.
fn pack(architecture: Architecture, path: &Path, speaker: &Path, made_at: u64, output: &Path) -> Result<()> {
    let binary = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        u64::try_from(binary.len())? <= LARGEST,
        "{} has {} bytes, and {LARGEST} are allowed",
        path.display(),
        binary.len()
    );
    audit::compare(&binary, &crates::of_user_space(architecture)?)?;
    let files = stage::files(architecture, &binary, speaker, made_at)?;
    let name = tarball::name(architecture);
    let bill = files.iter().find(|file| file.path == stage::SBOM).context("no bill of materials was made")?;
    write(&output.join(format!("{name}.cdx.json")), &bill.content)?;
    let packed = tarball::pack(architecture, made_at, &binary, &files)?;
    write(&output.join(format!("{name}.tar.gz")), &packed)?;
    package::deb(architecture, made_at, &output.join(package::deb_name(architecture)))?;
    package::rpm(architecture, made_at, &output.join(package::rpm_name(architecture)))?;
    println!("{}: the binary has {:.1} MB", architecture.name(), binary.len() as f64 / 1e6);
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Prints what there is now: size, checksum, name.
fn show(output: &Path) -> Result<()> {
    println!("{}", output.display());
    for (name, sum) in sums::of(output)? {
        let size = fs::metadata(output.join(&name)).with_context(|| format!("cannot read {name}"))?.len();
        println!("  {:>5.1} MB  {}…  {name}", size as f64 / 1e6, &sum[..12]);
    }
    Ok(())
}
