//! `podtrace lab`.

use anyhow::Result;

use super::args::{self, LabCommand};
use super::{FAILED, SUCCESS};
use crate::lab::{Lab, RuleSet, networks};

pub(super) fn run(args: &args::Lab) -> Result<u8> {
    let lab = Lab::named(&args.name)?;
    match &args.command {
        LabCommand::Up { network, rules } => {
            let up = lab.up(*network, *rules)?;
            anstream::println!("{up}");
            if up.rules == RuleSet::None && rules.is_none() {
                anstream::eprintln!(
                    "no Services: install nftables or iptables, then run `podtrace lab down` and `podtrace lab up`"
                );
            }
            anstream::println!("inventory: {}", lab.inventory_path().display());
        }
        LabCommand::Listen { pod, address } => Lab::listen(pod, *address)?,
        LabCommand::Down => anstream::println!("{}", lab.down()?),
        LabCommand::Networks => anstream::println!("{}", networks()?),
        LabCommand::Status => {
            let status = lab.status()?;
            anstream::println!("{status}");
            return Ok(if status.is_healthy() { SUCCESS } else { FAILED });
        }
        LabCommand::Exec { pod, command } => match lab.exec(pod, command)? {},
    }
    Ok(SUCCESS)
}
