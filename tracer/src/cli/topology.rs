//! `podtrace topology`.

use anyhow::{Context as _, Result};
use tracing::warn;

use super::args::{Topology, TopologyFormat};
use super::look::{Looking, print};
use super::output::width;
use super::{FAILED, SUCCESS};
use podtrace_report::output::map;

pub(super) fn run(args: &Topology) -> Result<u8> {
    let looking = Looking::begin(&args.look, "topology")?;
    let surveys = looking.survey(false);
    let inventory = &looking.inventory;
    print(&match args.output {
        TopologyFormat::Text => map::draw(&surveys, inventory, width()),
        TopologyFormat::Dot => map::to_dot(&surveys, inventory),
        TopologyFormat::Json => map::to_json(&surveys, inventory).context("writing the topology as JSON")?,
    })?;
    let mut status = SUCCESS;
    for survey in &surveys {
        if let Err(error) = &survey.found {
            warn!("{}: could not read the topology: {error}", survey.node);
            status = FAILED;
        }
        // The drawing shows warnings, too.
        for warning in &survey.warnings {
            detail!("{}: {warning}", survey.node);
        }
    }
    Ok(status)
}
