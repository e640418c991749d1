//! `cargo xtask demo`: builds podtrace quickly and becomes `podtrace demo`.

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::build::{self, What};
use crate::root;
use crate::toolchain::Route;

pub(crate) fn run(route: Option<Route>) -> Result<ExitCode> {
    let (_, binary) = build::provide(What::Trial, route)?;
    // cargo under sudo would leave files of root's in the checkout: only the demo itself becomes root.
    root::authenticate()?;
    // Replacing ourselves hands on exit status and signals without our doing.
    let error = root::command(&binary)?.arg("demo").exec();
    Err(error).with_context(|| format!("cannot run {}", binary.display()))
}
