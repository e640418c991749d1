//! Tries what was made as a user does who has nothing else: a root without any program, an installation from the tarball
//! and from the Debian package, a trace in the lab, an upgrade, the removal.
//!
//! dpkg and tar are this machine's and work on that root; what runs in it is podtrace alone. The root has a mount namespace
//! and a tree of processes of its own, so that nothing is left when it is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{package, tarball};
use crate::architecture::Architecture;
use crate::{run, workspace};

/// Folders of the kernel and of what is running, which any root has.
const FOLDERS: [&str; 6] = ["dev", "proc", "run", "sys", "tmp", "var/lib/dpkg/info"];

/// Mounts these in the root that is the first argument, and runs the others in it.
const ENTER: &str = "set -e; root=$1; mount -t proc proc \"$root/proc\"; mount --rbind /sys \"$root/sys\"; \
                     mount --rbind /dev \"$root/dev\"; mount -t tmpfs run \"$root/run\"; exec chroot \"$@\"";

/// How long a first path may take from the start of the installation.
const LONGEST: Duration = Duration::from_secs(60);

/// Tries what is in `output` for `here`, and starts what is for others if they can be emulated.
pub(crate) fn run(here: Architecture, others: &[(Architecture, PathBuf)], output: &Path) -> Result<()> {
    from_tarball(here, output)?;
    from_deb(here, output)?;
    from_rpm(here, output)?;
    for (architecture, binary) in others.iter().filter(|(other, _)| *other != here) {
        emulated(*architecture, binary)?;
    }
    Ok(())
}

fn from_tarball(here: Architecture, output: &Path) -> Result<()> {
    let root = Root::new("tarball")?;
    let started = Instant::now();
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(output.join(format!("{}.tar.gz", tarball::name(here))));
    root.outside(tar.arg("--directory").arg(&root.0))?;
    let program = format!("/{}/podtrace", tarball::name(here));
    root.says_version(&program, env!("CARGO_PKG_VERSION"))?;
    root.traces(&program, "the tarball", started)
}

fn from_deb(here: Architecture, output: &Path) -> Result<()> {
    let root = Root::new("deb")?;
    let deb = output.join(package::deb_name(here));
    let started = Instant::now();
    root.dpkg(&["--install"], Some(&deb))?;
    root.says_version("/usr/bin/podtrace", env!("CARGO_PKG_VERSION"))?;
    root.traces("/usr/bin/podtrace", "the .deb", started)?;
    let next = later(&deb, &root.0.join("tmp"))?;
    root.dpkg(&["--install"], Some(&next))?;
    let status = fs::read_to_string(root.0.join("var/lib/dpkg/status")).context("reading dpkg's status")?;
    ensure!(status.contains("Version: 999\n"), "the upgrade has not replaced the version:\n{status}");
    root.says_version("/usr/bin/podtrace", env!("CARGO_PKG_VERSION"))?;
    root.dpkg(&["--purge", "podtrace"], None)?;
    let left: Vec<_> = files(&root.0)?.into_iter().filter(|path| !path.starts_with("var/lib/dpkg")).collect();
    ensure!(left.iter().all(|path| path.starts_with("tmp")), "the .deb leaves behind {left:?}");
    println!("the .deb: upgraded, removed, and nothing was left");
    Ok(())
}

/// Has rpm read the package, if it is here: it installs into an empty root as dpkg does.
fn from_rpm(here: Architecture, output: &Path) -> Result<()> {
    if run::find_program("rpm").is_none() {
        println!("the .rpm: not tried, for there is no rpm here");
        return Ok(());
    }
    let root = Root::new("rpm")?;
    let started = Instant::now();
    let rpm = |arguments: &[&str]| {
        let mut rpm = Command::new("rpm");
        rpm.arg("--root").arg(&root.0).args(arguments);
        rpm
    };
    // The root has none of the packages that are only recommended, and nothing else is asked for.
    root.outside(rpm(&["--install"]).arg(output.join(package::rpm_name(here))))?;
    root.says_version("/usr/bin/podtrace", env!("CARGO_PKG_VERSION"))?;
    root.traces("/usr/bin/podtrace", "the .rpm", started)?;
    root.outside(&mut rpm(&["--erase", "podtrace"]))?;
    ensure!(!root.0.join("usr/bin/podtrace").exists(), "the .rpm leaves podtrace behind");
    Ok(())
}

/// Starts a binary for another processor by QEMU's user emulation, which cannot load eBPF programs.
fn emulated(architecture: Architecture, binary: &Path) -> Result<()> {
    let emulator = format!("qemu-{}-static", architecture.name());
    if run::find_program(&emulator).is_none() {
        println!(
            "{}: not started, for there is no {emulator} here (package qemu-user-static)",
            architecture.name()
        );
        return Ok(());
    }
    let about = || format!("{} does not start", binary.display());
    let text = run::ask(Command::new(emulator).arg(binary).arg("--version")).with_context(about)?;
    ensure!(text.trim() == format!("podtrace {}", env!("CARGO_PKG_VERSION")), "it says {text:?}");
    println!("{}: started under QEMU, and says {}", architecture.name(), text.trim());
    Ok(())
}

/// The package again with a later version.
fn later(deb: &Path, folder: &Path) -> Result<PathBuf> {
    let unpacked = folder.join("unpacked");
    let run = |arguments: &[&std::ffi::OsStr]| {
        let status = Command::new("dpkg-deb").args(arguments).stdout(Stdio::null()).status();
        ensure!(status.context("cannot run dpkg-deb")?.success(), "dpkg-deb {arguments:?} failed");
        Ok(())
    };
    run(&["--raw-extract".as_ref(), deb.as_ref(), unpacked.as_ref()])?;
    let control = unpacked.join("DEBIAN/control");
    let about = || format!("cannot change {}", control.display());
    let text = fs::read_to_string(&control).with_context(about)?;
    let lines = text.lines().map(|line| if line.starts_with("Version: ") { "Version: 999" } else { line });
    fs::write(&control, lines.map(|line| format!("{line}\n")).collect::<String>()).with_context(about)?;
    let next = folder.join("next.deb");
    run(&["--build".as_ref(), "--root-owner-group".as_ref(), unpacked.as_ref(), next.as_ref()])?;
    Ok(next)
}

/// A root without programs; removed when dropped.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Result<Self> {
        let root = workspace::target_dir().join("dist-try").join(name);
        let about = || format!("cannot make {}", root.display());
        if root.exists() {
            fs::remove_dir_all(&root).with_context(about)?;
        }
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder)).with_context(about)?;
        }
        // What dpkg looks at first.
        fs::write(root.join("var/lib/dpkg/status"), "").with_context(about)?;
        Ok(Self(root))
    }

    fn dpkg(&self, arguments: &[&str], package: Option<&Path>) -> Result<()> {
        let mut dpkg = Command::new("dpkg");
        // A root without programs has none for scripts either: podtrace's package has no scripts.
        dpkg.arg("--root").arg(&self.0).args(["--log=/dev/null"]).args(arguments);
        self.outside(dpkg.args(package))
    }

    /// Runs a program of this machine on the root.
    fn outside(&self, command: &mut Command) -> Result<()> {
        let (status, output) = run::gather(command, |_| {})?;
        ensure!(status.success(), "{command:?} ended with {status}:\n{}", output.join("\n"));
        Ok(())
    }

    /// Runs a program in the root, with each line of what it prints.
    fn inside(&self, arguments: &[&str], on_line: impl FnMut(&str)) -> Result<(ExitStatus, Vec<String>)> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]);
        command.args(["sh", "-c", ENTER, "enter"]).arg(&self.0).args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/");
        run::gather(&mut command, on_line)
    }

    fn says_version(&self, program: &str, version: &str) -> Result<()> {
        let (status, output) = self.inside(&[program, "--version"], |_| {})?;
        ensure!(
            status.success() && output == [format!("podtrace {version}")],
            "{program} --version ended with {status}: {output:?}"
        );
        Ok(())
    }

    /// Runs the demonstration; prints how long the first path took since the installation began.
    fn traces(&self, program: &str, what: &str, started: Instant) -> Result<()> {
        let mut first = None;
        let (status, output) = self.inside(&[program, "demo"], |line| {
            if first.is_none() && line.contains("delivered in ") {
                first = Some(started.elapsed());
            }
        })?;
        ensure!(status.success(), "{program} demo ended with {status}:\n{}", output.join("\n"));
        let first = first.with_context(|| format!("no path was delivered:\n{}", output.join("\n")))?;
        println!("{what}: {:.1} s from the archive to the first path", first.as_secs_f64());
        ensure!(first <= LONGEST, "that is more than {LONGEST:?}");
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Left behind at worst, below target.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All files below a folder.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        let about = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(about)? {
            let entry = entry.with_context(about)?;
            if entry.file_type().with_context(about)?.is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(root).context("a file outside")?.to_owned());
            }
        }
    }
    Ok(found)
}
