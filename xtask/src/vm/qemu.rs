//! QEMU: having it, and the command line that boots a kernel.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::debian::Host;
use crate::{apt, root, run};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
const WHAT_FOR: &str = "it boots the kernels";

/// Whether QEMU is here.
pub(super) fn is_here() -> bool {
    run::find_program(PROGRAM).is_some()
}

/// Installs QEMU, from this machine's release or its backports: from where it costs no other package.
pub(super) fn install(host: &Host) -> Result<()> {
    let Some(backports) = host.backports() else {
        return apt::install(&[PACKAGE], WHAT_FOR);
    };
    eprintln!("installing Debian package {PACKAGE}: {WHAT_FOR}");
    root::authenticate()?;
    let ways: [&[&str]; 2] = [&[], &["--target-release", &backports]];
    for way in ways {
        let install = |options: &[&str]| -> Result<Command> {
            let mut command = root::command("env")?;
            let (name, value) = host.apt.variable();
            command.arg(format!("{name}={}", value.display()));
            command.args(["LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-o"]);
            command.args(["DPkg::Lock::Timeout=120", "install", "--no-install-recommends"]);
            command.args(way).args(options).arg(PACKAGE);
            Ok(command)
        };
        let Some(plan) = run::ask(&mut install(&["--simulate"])?) else { continue };
        if removes_none(&plan) {
            return run::step(&format!("apt-get install {PACKAGE}"), &mut install(&["--no-remove"])?);
        }
    }
    bail!("{PACKAGE} cannot be installed without removing other packages, from {backports} neither")
}

/// Whether apt's simulation removes no package.
fn removes_none(plan: &str) -> bool {
    !plan.lines().any(|line| line.starts_with("Remv "))
}

/// Boots `kernel`: its console goes into a file, its second serial port to stdout.
///
/// TCG: the CPU is emulated, since these kernels must also boot where there is no usable KVM. The timer goes unchecked,
/// for an emulated one that is late by the host's doing would be taken for broken.
pub(super) fn command(kernel: &Path, initrd: &Path, console: &Path, devices: &[String]) -> Command {
    // Dies with us even if we are killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", PROGRAM]);
    command.args([
        "-M",
        "q35",
        "-accel",
        "tcg,thread=multi,tb-size=512",
        "-cpu",
        "max",
        "-m",
        "2048",
        "-smp",
        "2",
    ]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial"]);
    command.arg(format!("file:{}", console.display()));
    command.args(["-serial", "file:/dev/stdout", "-kernel"]).arg(kernel).arg("-initrd").arg(initrd);
    command.args([
        "-append",
        "console=ttyS0 quiet panic=-1 nokaslr mitigations=off random.trust_cpu=on tsc=reliable no_timer_check",
    ]);
    command.args(devices);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_that_removes_something_is_recognised() {
        assert!(removes_none("Inst qemu-system-x86 (1:10.0.2 Debian)\nConf qemu-system-x86\n"));
        assert!(!removes_none("Remv qemu-utils [1:10.0.2]\nInst qemu-system-x86 (1:7.2)\n"));
    }
}
