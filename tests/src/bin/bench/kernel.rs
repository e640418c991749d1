//! What the kernel knows of the eBPF programs of some agents: their runs, and the events that they counted.
//!
//! An agent holds its programs and maps as open files, whose numbers the kernel shows. Other agents on the machine are not
//! counted.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, PerCpuArray, loaded_maps};
use aya::programs::loaded_programs;
use serde_json::json;
use tracer_common::Counters;

/// Name of the map of counters.
const COUNTERS: &str = "COUNTERS";

/// Prints the counts of what these processes hold, as JSON.
pub(crate) fn print(pids: &[&str]) -> Result<()> {
    let held = Held::by(pids);
    let mut programs = Vec::new();
    // One that is unloaded meanwhile is missing.
    for program in loaded_programs().flatten().filter(|program| held.programs.contains(&program.id())) {
        let Some(name) = program.name_as_str() else { continue };
        let Ok(fd) = program.fd() else { continue };
        let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
        let info = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        programs.push(json!({
            "name": name,
            "runs": field(&info, "run_cnt:").unwrap_or(0),
            "nanoseconds": field(&info, "run_time_ns:").unwrap_or(0),
        }));
    }
    let counters = counters(&held)?;
    let printed = json!({
        "produced": counters.produced,
        "lost": counters.lost_ring + counters.lost_map,
        "programs": programs,
    });
    println!("{printed}");
    Ok(())
}

/// Numbers of programs and maps.
#[derive(Default)]
struct Held {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

impl Held {
    /// What these processes hold open. One that has ended holds nothing.
    fn by(pids: &[&str]) -> Self {
        let mut held = Self::default();
        let directories = pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fdinfo")).ok());
        for entry in directories.flatten().flatten() {
            let Ok(info) = fs::read_to_string(entry.path()) else { continue };
            let number = |name| field(&info, name).and_then(|number| u32::try_from(number).ok());
            held.programs.extend(number("prog_id:"));
            held.maps.extend(number("map_id:"));
        }
        held
    }
}

fn field(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// The counters of all agents, summed.
fn counters(held: &Held) -> Result<Counters> {
    let mut sum = Counters::default();
    for info in loaded_maps().flatten().filter(|info| held.maps.contains(&info.id())) {
        if info.name_as_str() != Some(COUNTERS) {
            continue;
        }
        // One that is removed meanwhile is missing.
        let Ok(map) = MapData::from_id(info.id()) else { continue };
        let Ok(map) = PerCpuArray::<_, Counters>::try_from(Map::PerCpuArray(map)) else { continue };
        for cpu in map.get(&0, 0).context("reading counters")?.iter() {
            sum.produced += cpu.produced;
            sum.lost_ring += cpu.lost_ring;
            sum.lost_map += cpu.lost_map;
        }
    }
    Ok(sum)
}
