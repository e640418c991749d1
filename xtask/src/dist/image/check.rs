//! Whether others read the archive: skopeo copies all images of it, which compares every digest.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::architecture::Architecture;
use crate::{apt, run, workspace};

const PROGRAM: &str = "skopeo";

/// Reads the archive with skopeo; says so if that cannot be had.
pub(super) fn read(
    archive: &Path,
    tag: &str,
    digest: &str,
    architectures: impl Iterator<Item = Architecture>,
) -> Result<()> {
    if run::find_program(PROGRAM).is_none()
        && let Err(error) = apt::install(&[PROGRAM], "it checks the image")
    {
        eprintln!("warning: the image was not checked, for there is no {PROGRAM}: {error:#}");
        return Ok(());
    }
    let source = format!("oci-archive:{}:{tag}", archive.display());
    let copy = workspace::target_dir().join("image-copy");
    let mut command = Command::new(PROGRAM);
    command.args(["copy", "--all", "--insecure-policy", &source]).arg(format!("dir:{}", copy.display()));
    run::step("skopeo reads the image", &mut command)?;
    std::fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    for architecture in architectures {
        let name = architecture.debian();
        let mut command = Command::new(PROGRAM);
        command.args(["inspect", "--override-os", "linux", "--override-arch", name, &source]);
        let text = run::ask(&mut command).with_context(|| format!("skopeo finds no image for {name}"))?;
        let found: Value = serde_json::from_str(&text).context("reading what skopeo prints")?;
        ensure!(
            found["Architecture"] == name,
            "skopeo reads {} in the image for {name}",
            found["Architecture"]
        );
        ensure!(found["Digest"] == digest, "skopeo reads the digest {}, and it is {digest}", found["Digest"]);
    }
    Ok(())
}
