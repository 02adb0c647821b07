//! A shop on real data, on any broker.
//!
//! Six scenes: orders through a queue, the same orders to groups, the weather to subscriptions of which one is away for a
//! while, share prices by subject, poison messages, and bad lines in the input. Every message is accounted for in the end. No
//! line of it names a broker: `--config` says which one.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

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
    println!("The shop runs on the {} broker, as {} says.", report.broker, cli.config().display());

    let faults = scenes::play(&mut stage, &mut report, orders).await;
    report.interrupted = stage.is_interrupted();
    report.ledger = LedgerReport { tally: stage.tally(), balanced: stage.is_balanced() };
    let faults = match faults {
        Ok(faults) => faults,
        Err(error) => vec![error.to_string()],
    };
    if !report.interrupted {
        report.ledger.balanced &= faults.is_empty();
    }
    close_the_books(&report, &faults);
    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
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
    let driver = stage.broker(&running, "orders")?.driver().to_owned();
    running.shutdown().await?;
    Ok(driver)
}

/// Ctrl-C and, where there is one, SIGTERM: the scene that plays is drained, and the books are closed.
fn listen_for_interrupt() -> std::io::Result<watch::Receiver<bool>> {
    let (interrupt, interrupted) = watch::channel(false);
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        eprintln!("\nstopping: what has started is finished first (once more to stop at once)");
        interrupt.send_replace(true);
        let _ = tokio::signal::ctrl_c().await;
        std::process::exit(i32::from(INTERRUPTED));
    });
    Ok(interrupted)
}

fn close_the_books(report: &Report, faults: &[String]) {
    let LedgerReport { tally, balanced } = &report.ledger;
    println!("\nThe ledger{}", if report.interrupted { " so far (interrupted)" } else { "" });
    println!("   received {:>8}", tally.received);
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
        println!("   {} {name:<14} {count:>8}", if index == 0 { '=' } else { '+' });
    }
    for fault in faults {
        println!("   ! {fault}");
    }
    match (balanced, report.interrupted) {
        (true, false) => println!("   It balances: every confirmed message is accounted for."),
        (true, true) => {
            println!("   It balances: every delivery is accounted for. The rest still waits at the broker.")
        }
        (false, _) => println!("   It does not balance."),
    }
}
