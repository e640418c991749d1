//! What the manifests have to keep: no dependency needs a newer Rust.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

fn cargo(arguments: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).arg("--locked").output()?;
    ensure!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("reading what cargo prints")
}

#[test]
fn no_dependency_needs_a_newer_rust_than_ours() -> Result<()> {
    // For one platform, cargo needs no other packages than those that this test was built with.
    let platform = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    let metadata = cargo(&[["metadata", "--format-version=1"], platform].concat())?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let ours =
        packages.iter().find(|package| package["name"] == "podtrace").context("podtrace is missing")?;
    let ours = version(&ours["rust_version"]).context("podtrace has no rust-version")?;
    // A dependency that does not state its version shows only when that version compiles it.
    let newer: Vec<_> = packages
        .iter()
        .filter(|package| version(&package["rust_version"]).is_some_and(|theirs| theirs > ours))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["rust_version"]))
        .collect();
    ensure!(
        newer.is_empty(),
        "these need a newer Rust than our rust-version {ours:?}:\n{}",
        newer.join("\n")
    );
    Ok(())
}

#[test]
fn every_place_names_the_same_oldest_rust() -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let read =
        |file: &str| std::fs::read_to_string(format!("{root}/{file}")).with_context(|| file.to_owned());
    let manifest = read("Cargo.toml")?;
    let (_, after) = manifest.split_once("rust-version = \"").context("no rust-version")?;
    let (oldest, _) = after.split_once('"').context("no end of rust-version")?;
    for (file, text) in [
        ("README.md", format!("Rust {oldest} or newer")),
        (".github/workflows/check.yml", format!("rust:{oldest}-")),
        (".github/workflows/check.yml", format!("\"rust_version\":\"{oldest}\"")),
    ] {
        ensure!(read(file)?.contains(&text), "{file} does not say {text:?}");
    }
    Ok(())
}

/// A version such as `1.89` or `1.89.0`.
fn version(value: &Value) -> Option<(u32, u32, u32)> {
    let mut numbers = value.as_str()?.split('.').map(|number| number.parse().unwrap_or(0));
    Some((numbers.next()?, numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
}
