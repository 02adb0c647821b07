//! `up` starts brokers for a person at a shell, `doctor` says which could be started.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use integration_tests::{Broker, Error, Kind, Result, available, brokers_are_required, engine, own, recorded_address};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Real brokers on this machine, for people.
#[derive(Debug, Parser)]
#[command(name = "integration-tests")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start brokers, print an `export` line for each, and take them down on Ctrl-C.
    Up {
        /// Which: rabbitmq kafka redis valkey sqs elasticmq activemq. Without any: rabbitmq kafka redis sqs activemq.
        brokers: Vec<Kind>,
    },
    /// Say what is present, what is missing and how to install it. Fails if something is missing and
    /// MESSAGING_REQUIRE_BROKERS=1.
    Doctor,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Up { brokers } if brokers.is_empty() => up(Kind::MAIN_KINDS.to_vec()).await,
        Command::Up { brokers } => up(brokers).await,
        Command::Doctor => doctor().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn up(mut kinds: Vec<Kind>) -> Result<()> {
    kinds.sort_unstable();
    kinds.dedup();
    let mut end = std::pin::pin!(asked_to_end()?);
    let started = tokio::select! {
        started = start(kinds) => started?,
        () = &mut end => return Ok(()),
    };
    for broker in &started {
        print(&format!("export {}={}", broker.kind().variable(), broker.url()));
    }
    say("ready: Ctrl-C takes them down");
    end.await;
    for broker in &started {
        broker.stop().await?;
    }
    Ok(())
}

/// Starts them side by side; all or none.
async fn start(kinds: Vec<Kind>) -> Result<Vec<Box<dyn Broker>>> {
    let mut starting = JoinSet::new();
    for kind in kinds {
        starting.spawn(async move {
            let began = Instant::now();
            (kind, own(kind).await, began.elapsed())
        });
    }
    let mut started = Vec::new();
    while let Some(joined) = starting.join_next().await {
        let (kind, broker, took) = joined.map_err(|error| Error::caused("a start was given up", error))?;
        let broker = broker.map_err(|error| error.within(format!("cannot start {kind}")))?;
        say(&format!("{kind}: {}, after {:.1} s", broker.way(), took.as_secs_f32()));
        started.push(broker);
    }
    started.sort_unstable_by_key(|broker| broker.kind());
    Ok(started)
}

/// Resolves at Ctrl-C, at a request to end, and when the terminal goes away.
fn asked_to_end() -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).map_err(|error| Error::caused("cannot listen for signals", error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

async fn doctor() -> Result<()> {
    let mut missing = Vec::new();
    for kind in Kind::ALL_KINDS {
        if let Some(address) = recorded_address(kind) {
            print(&format!("{kind:10} address    {address}"));
        }
        match available(kind) {
            Ok(()) => print(&format!("{kind:10} native     present")),
            Err(error) => {
                print(&format!("{kind:10} native     missing: {error}"));
                missing.push(kind.name());
            }
        }
    }
    print(&format!("{:10} container  {}", "engine", engine().await));
    if missing.is_empty() || !brokers_are_required() {
        return Ok(());
    }
    Err(Error::missing(format!("{} missing: run integration-tests/install.sh", missing.join(", "))))
}

#[allow(clippy::print_stdout, reason = "this is what a command is for")]
fn print(line: &str) {
    println!("{line}");
}

#[allow(clippy::print_stderr, reason = "kept apart from the lines that a shell evaluates")]
fn say(line: &str) {
    eprintln!("{line}");
}
