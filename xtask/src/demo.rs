//! `cargo xtask demo`: builds podtrace and becomes `podtrace demo`.

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::toolchain::{Route, Toolchain};
use crate::{build, root};

pub(crate) fn run(route: Option<Route>) -> Result<ExitCode> {
    let binary = build::release(&Toolchain::provide(route)?)?;
    // cargo under sudo would leave files of root's in the checkout: only the demo itself becomes root.
    root::authenticate()?;
    // Replacing ourselves hands on exit status and signals without our doing.
    let error = root::command(&binary)?.arg("demo").exec();
    Err(error).with_context(|| format!("cannot run {}", binary.display()))
}
