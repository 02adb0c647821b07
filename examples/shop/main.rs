//! A shop on real data, on any broker.
//!
//! Six scenes: orders through a queue, the same orders to groups, the weather to subscriptions of which one is away for a
//! while, share prices by subject, poison messages, and bad lines in the input. Every message is accounted for in the end. No
//! line of it names a broker: `--config` says which one.
#![allow(clippy::print_stderr, reason = "a program for people")]

mod cli;
mod input;
mod picture;
mod report;
mod scenes;
mod stage;

use std::process::ExitCode;

use clap::Parser;
use messaging::{Config, Result};
use tokio::sync::watch;

use crate::cli::Cli;
use crate::picture::say;
use crate::report::{LedgerReport, Report};
use crate::stage::Stage;

/// What shells report of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match play(&cli).await {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn play(cli: &Cli) -> std::result::Result<ExitCode, Box<dyn std::error::Error>> {
    let orders = input::order_lines(cli.orders.as_deref())?;
    let config = Config::load(cli.config())?;
    let mut stage = Stage::new(config, listen_for_interrupt()?);
    let mut report = Report { broker: driver_of(&stage).await?, ..Report::default() };
    say(format_args!("The shop runs on the {} broker, as {} says.", report.broker, cli.config().display()));

    let faults = scenes::play(&mut stage, &mut report, orders).await;
    report.interrupted = stage.is_interrupted();
    report.ledger = LedgerReport { tally: stage.tally(), balanced: stage.is_balanced() };
    let (faults, finished) = match faults {
        Ok(faults) => (faults, true),
        Err(error) => (vec![error.to_string()], false),
    };
    if !report.interrupted {
        report.ledger.balanced &= faults.is_empty();
    }
    close_the_books(&report, &faults, finished);
    if cli.json {
        say(format_args!("{}", serde_json::to_string(&report)?));
    }
    Ok(match (report.ledger.balanced, report.interrupted) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(INTERRUPTED),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Which kind of broker it turned out to be; of the program's own knowledge there is none.
async fn driver_of(stage: &Stage) -> Result<String> {
    let running = stage.app().start().await?;
    let driver = running.broker_of("orders")?.identity().driver().to_owned();
    running.shutdown().await?;
    Ok(driver)
}

/// Ctrl-C and, where there is one, SIGTERM: the scene that plays is drained, and the books are closed.
fn listen_for_interrupt() -> std::io::Result<watch::Receiver<bool>> {
    let (interrupt, interrupted) = watch::channel(false);
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        // The first drains, the second ends at once, whichever of the two signals they are.
        for is_first in [true, false] {
            #[cfg(unix)]
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            #[cfg(not(unix))]
            let _ = tokio::signal::ctrl_c().await;
            if is_first {
                eprintln!("\nstopping: what has started is finished first (once more to stop at once)");
                interrupt.send_replace(true);
            }
        }
        std::process::exit(i32::from(INTERRUPTED));
    });
    Ok(interrupted)
}

fn close_the_books(report: &Report, faults: &[String], finished: bool) {
    let LedgerReport { tally, balanced } = &report.ledger;
    let so_far = match (finished, report.interrupted) {
        (false, _) => " so far (a scene failed; what it received is not in it)",
        (true, true) => " so far (interrupted)",
        (true, false) => "",
    };
    say(format_args!("\nThe ledger{so_far}"));
    say(format_args!("   {:<16} {:>8}", "received", tally.received));
    let ends = [
        ("acked", tally.acked),
        ("retried", tally.retried),
        ("released", tally.released),
        ("dead-lettered", tally.dead_lettered),
        ("discarded", tally.discarded),
        ("expired", tally.expired),
        ("stale", tally.stale),
        ("in flight", tally.in_flight),
    ];
    for (index, (name, count)) in ends.into_iter().enumerate() {
        say(format_args!("   {} {name:<14} {count:>8}", if index == 0 { '=' } else { '+' }));
    }
    for fault in faults {
        picture::note(fault);
    }
    picture::line(match (finished, balanced, report.interrupted) {
        (false, ..) => "The run did not get to its end.",
        (true, false, _) => "It does not balance.",
        (true, true, false) => "It balances: every confirmed message is accounted for.",
        (true, true, true) => {
            "It balances: every delivery is accounted for. What was not delivered was left with the broker."
        }
    });
}
