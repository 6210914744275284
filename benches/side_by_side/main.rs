//! Side by side: pods over Hopscope, over the kernel, over the bare relay and over the naive way,
//! with and without a Service between them, all in one run and in turn, so that what else the
//! machine does falls on each alike.
//!
//! ```text
//!   pod a (namespace) -- eth0 --[ path ]-- eth0 -- (namespace) pod b
//! ```
//!
//! - [`path`]: what lies between the two pods, made and removed; [`netns`]: the namespaces.
//! - [`role`]: the processes that move frames: relay, naive relay, Hopscope.
//! - [`service`]: the Service that pod b is asked for at, on the paths that have one.
//! - [`measure`]: what is measured, [`load`] and [`connect`]: what the pods do meanwhile;
//!   [`usage`]: what it cost.
//! - [`capture`]: what takes packets while a path is measured.
//! - [`report`]: medians, ratios, the table and the JSON file.
//!
//! Run it as root on a machine that does nothing else. ^C ends it and leaves nothing behind.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it reports to a terminal")]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

mod capture;
mod connect;
mod interrupt;
mod load;
mod machine;
mod measure;
mod netns;
mod path;
mod report;
mod role;
mod service;
mod usage;

use interrupt::Interrupt;
use measure::{Sample, Timing};
use path::{Kind, Path};

/// What goes wrong here is told, once, and ends the run.
type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What was typed.
struct Options {
    rounds: usize,
    window: Duration,
    json: PathBuf,
    /// The paths that are measured.
    kinds: Vec<Kind>,
}

fn main() -> ExitCode {
    if let Some(code) = capture::play_hopctl() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == role::ARGUMENT => role::play(rest).map(|()| true),
        _ => options(&arguments).and_then(|options| bench(&options)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("side-by-side: {error}");
            ExitCode::from(2)
        }
    }
}

const USAGE: &str =
    "usage: side-by-side [--rounds 5] [--seconds 2] [--only LABEL,LABEL] [--json FILE]
labels: kernel, relay, vethrelay, tuntap, hoptap, hopveth, hopbare, hoppaced, hopcap,
kerneldnat, kernelrules, hopvip, hopvips
exit code: 0 all musts are met, 1 one is missed, 2 the bench could not run";

fn options(arguments: &[String]) -> Fallible<Options> {
    let mut options = Options {
        rounds: 5,
        window: Duration::from_secs(2),
        json: report::default_file(),
        kinds: Kind::ALL.to_vec(),
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match word.as_str() {
            "--rounds" => options.rounds = value.parse().map_err(|_error| USAGE)?,
            "--seconds" => {
                let seconds: f64 = value.parse().map_err(|_error| USAGE)?;
                options.window = Duration::try_from_secs_f64(seconds).map_err(|_error| USAGE)?;
            }
            "--only" => {
                let labels: Vec<&str> = value.split(',').collect();
                if let Some(label) = labels.iter().find(|label| Kind::named(label).is_none()) {
                    return Err(format!("--only {label}: no such path\n{USAGE}").into());
                }
                options.kinds = labels.into_iter().filter_map(Kind::named).collect();
            }
            "--json" => options.json = value.into(),
            _ => return Err(USAGE.into()),
        }
    }
    let sound = (1..=99).contains(&options.rounds)
        && (Duration::from_millis(100)..=Duration::from_secs(10)).contains(&options.window);
    if sound { Ok(options) } else { Err("rounds: 1 to 99; seconds: 0.1 to 10".into()) }
}

/// All rounds. Whether every must was met.
fn bench(options: &Options) -> Fallible<bool> {
    if !nix::unistd::geteuid().is_root() {
        return Err("namespaces and TAPs need root".into());
    }
    // Before any thread, so that all of them leave the signals to the one that waits for them.
    let interrupt = Interrupt::watch()?;
    path::sweep()?;
    netns::allow_cubic()?;
    let machine = machine::describe(&interrupt)?;
    println!("{machine}");
    if let Some(warning) = machine.warning() {
        eprintln!("warning: {warning}");
    }
    let mut paths = Vec::new();
    for kind in &options.kinds {
        paths.push(Path::make(*kind, &interrupt)?);
    }
    let samples = rounds(&paths, options, &interrupt);
    drop(paths);
    let report = report::Report::new(machine, options.rounds, options.window, samples?);
    print!("{report}");
    report.write(&options.json)?;
    println!("written to {}", options.json.display());
    Ok(report.musts_met())
}

fn rounds(paths: &[Path], options: &Options, interrupt: &Interrupt) -> Fallible<Vec<Sample>> {
    let timing = Timing::new(options.window);
    let mut samples = Vec::new();
    for round in 0..options.rounds {
        println!("round {} of {}", round + 1, options.rounds);
        // Each path is first in some round: whoever comes after an idle pause has it a little
        // warmer or colder.
        for turn in 0..paths.len() {
            let Some(path) = paths.get((turn + round) % paths.len()) else { continue };
            let taken = measure::all(path, round, timing, interrupt)?;
            println!("  {:<16} {}", path.kind().name(), report::progress(&taken));
            samples.extend(taken);
        }
    }
    Ok(samples)
}
