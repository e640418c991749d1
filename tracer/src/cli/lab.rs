//! `podtrace lab`.

use anyhow::Result;

use super::args::{self, LabCommand};
use super::{DONE, FAILED};
use crate::lab::{Lab, RuleSet};

pub(super) fn run(args: &args::Lab) -> Result<u8> {
    let lab = Lab::named(&args.name)?;
    match &args.command {
        LabCommand::Up { rules } => {
            let up = lab.up(*rules)?;
            anstream::println!("{up}");
            if up.rules == RuleSet::None && rules.is_none() {
                anstream::eprintln!(
                    "its nodes have no rules for Services: install nftables or iptables, and build it anew"
                );
            }
            anstream::println!("its inventory is {}", lab.inventory_path().display());
        }
        LabCommand::Listen { pod } => Lab::listen(pod)?,
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
