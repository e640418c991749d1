//! `podtrace lab`.

use anyhow::Result;

use super::args::{self, LabCommand};
use super::{DONE, FAILED};
use crate::lab::Lab;

pub(super) fn run(args: &args::Lab) -> Result<u8> {
    let lab = Lab::named(&args.name)?;
    match &args.command {
        LabCommand::Up => {
            anstream::println!("{}", lab.up()?);
            anstream::println!("its inventory is {}", lab.inventory_path().display());
        }
        LabCommand::Down => anstream::println!("{}", lab.down()?),
        LabCommand::Status => {
            let status = lab.status()?;
            anstream::println!("{status}");
            return Ok(if status.is_healthy() { DONE } else { FAILED });
        }
        LabCommand::Exec { pod, command } => match lab.exec(pod, command)? {},
    }
    Ok(DONE)
}
