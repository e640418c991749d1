//! `faults [--json] [--docs FILE] [--mark] [--show] [--list] [--first] [--stored] [--times N] [NAME…]`: runs the fault suite, or the
//! variants whose names hold one of these, and prints the score. `cargo xtask faults` calls it.
//!
//! The last run of every variant on every kernel is kept in `target/faults.jsonl`, or where `PODTRACE_FAULTS` says: the
//! table is made of all that is there.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use podtrace_tests::fault::score::{Outcome, Recorded, Run, Score, Stored};
use podtrace_tests::fault::{data, suite, table};
use podtrace_tests::{kernel, lab};
use serde_json::json;

struct Options {
    json: bool,
    docs: Option<String>,
    mark: bool,
    show: bool,
    list: bool,
    /// The first variant of each kind only.
    first: bool,
    /// Nothing is run.
    stored: bool,
    /// How often each variant is run.
    times: usize,
    names: Vec<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options = Options {
        json: false,
        docs: None,
        mark: false,
        show: false,
        list: false,
        first: false,
        stored: false,
        times: 1,
        names: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => options.json = true,
            "--docs" => options.docs = Some(words.next().context("--docs wants a file")?),
            "--times" => {
                let times = words.next().context("--times wants a number")?;
                options.times = times.parse().with_context(|| format!("--times {times}"))?;
            }
            "--mark" => options.mark = true,
            "--show" => options.show = true,
            "--first" => options.first = true,
            "--stored" => options.stored = true,
            "--list" => options.list = true,
            flag if flag.starts_with('-') => bail!("no such flag: {flag}"),
            name => options.names.push(name.to_owned()),
        }
    }
    Ok(options)
}

fn run() -> Result<ExitCode> {
    let Options { json, docs, mark, show, list, first, stored, times, names } = options()?;
    let all = data::variants()?;
    let chosen = |name: &str| {
        let whole = |part: &str| all.iter().any(|variant| variant.name == part || variant.kind == part);
        let fits = |part: &str| match whole(part) {
            true => name == part || name.split('/').next() == Some(part),
            false => name.contains(part),
        };
        names.is_empty() || names.iter().any(|part| fits(part))
    };
    let mut variants: Vec<_> = all.iter().filter(|variant| chosen(&variant.name)).cloned().collect();
    if first {
        variants.dedup_by(|other, one| other.kind == one.kind);
    }
    if list {
        for variant in &variants {
            println!("{}", variant.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if variants.is_empty() {
        bail!("no variant's name holds {}", names.join(" or "));
    }
    lab::sweep()?;
    let traffic = std::env::current_exe()?.with_file_name("traffic");
    let recorded = Recorded::load()?;
    let keep = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/faults.jsonl");
    let keep = Stored::load(std::env::var_os("PODTRACE_FAULTS").map_or(keep, Into::into))?;
    let to_run = if stored { Vec::new() } else { (0..times).flat_map(|_| variants.clone()).collect() };
    let runs = suite::all(&to_run, &traffic.to_string_lossy(), |run, said| {
        if let Err(error) = keep.add(run) {
            eprintln!("faults: {error:#}");
        }
        let mut text = table::line(run);
        if let Some(judgement) = run.judged() {
            let (worse, better) = recorded.against(&run.name, judgement);
            if !worse.is_empty() {
                text += &format!("\n         WORSE than recorded: {worse}");
            }
            if !better.is_empty() && !mark {
                text += &format!("\n         now holds: {better}; record it by --mark");
            }
        }
        if let (true, Some(said)) = (show, said) {
            text += &format!("\n{}", said.text);
        }
        if json {
            eprintln!("{text}");
            match serde_json::to_string(run) {
                Ok(line) => println!("{line}"),
                Err(error) => eprintln!("faults: {error}"),
            }
        } else {
            println!("{text}");
        }
    })?;
    let worse = runs.iter().any(|run| match &run.outcome {
        Outcome::Judged(judgement) => !recorded.against(&run.name, judgement).0.is_empty(),
        Outcome::Broken { .. } => true,
        Outcome::Skipped { .. } => false,
    });
    let runs = if stored { keep.of(&variants) } else { runs };
    if json {
        if stored {
            for run in &runs {
                println!("{}", serde_json::to_string(run)?);
            }
        }
        report_json(&runs);
    } else {
        println!("\n{}", table::scores(&runs));
        for (claim, count) in table::claims(&runs) {
            println!("{count:>5}  {claim}");
        }
    }
    if let Some(file) = docs {
        let runs = keep.kernels().into_iter().map(|kernel| (keep.on(&kernel, &all), kernel));
        let runs: Vec<_> = runs.map(|(runs, kernel)| table::Column { kernel, runs }).collect();
        std::fs::write(Path::new(&file), table::docs(&runs, &data::kinds()?))
            .with_context(|| format!("writing {file}"))?;
    }
    if mark {
        recorded.mark(&runs, &all)?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(if worse { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn report_json(runs: &[Run]) {
    let (faults, healthy): (Vec<_>, Vec<_>) = runs.iter().partition(|run| !run.healthy);
    println!(
        "{}",
        json!({"faults": Score::of(faults), "healthy": Score::of(healthy), "kernel": kernel::name()})
    );
}
