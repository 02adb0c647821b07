//! Ours beside the raw client, in one run: `cargo run --release -p benchmarks -- memory`.
//!
//! Machines are shared and noisy, so that only ratios within one run mean anything: ours and the references take turns,
//! each turn a run of its own, and the ratio of each round counts. `docs/performance.md` holds the last full run.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints what it measured")]
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

mod allocations;
#[cfg(any(test, feature = "rabbitmq", feature = "kafka"))]
mod brokers;
mod compare;
mod flavour;
#[cfg(feature = "kafka")]
mod kafka;
mod memory;
mod order;
mod plot;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod report;
mod stats;
#[cfg(any(test, feature = "rabbitmq", feature = "kafka"))]
mod stopwatch;
mod work;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use self::report::Report;
use self::work::Way;

/// Measures what the messaging crates cost, beside the plainest thing that moves the same messages.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The memory broker beside bounded channels.
    Memory(Options),
    /// RabbitMQ beside lapin.
    #[cfg(feature = "rabbitmq")]
    Rabbitmq(BrokerOptions),
    /// Kafka beside rdkafka, and its own measuring tools.
    #[cfg(feature = "kafka")]
    Kafka(BrokerOptions),
    /// Moves N messages once and prints nothing but the time: for callgrind.
    Work {
        /// How many messages.
        messages: u64,
        /// Which way they go.
        #[arg(long, value_enum, default_value_t = Way::Listener)]
        way: Way,
    },
}

/// How long and how often to measure, and what to print.
#[derive(Args, Clone)]
struct Options {
    /// How many rounds; 10 is the least that says something.
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// How long each turn takes, in seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Everything once for a moment, so that it cannot rot; the numbers mean nothing.
    #[arg(long)]
    quick: bool,
    /// Prints one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Also draws the ratios into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Only what has this word in its name, such as `batches`.
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
}

/// Where the broker is, and how to measure.
#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
#[derive(Args, Clone)]
struct BrokerOptions {
    #[command(flatten)]
    options: Options,
    /// A broker that runs already; without it that of the environment (MESSAGING_RABBITMQ_URL, MESSAGING_KAFKA_URL), or one
    /// is started.
    #[arg(long)]
    url: Option<String>,
    /// Puts the raw client in our place: how far apart equals are, on this machine today.
    #[arg(long)]
    null: bool,
}

#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
impl BrokerOptions {
    fn settled(mut self) -> Self {
        self.options = self.options.settled();
        self
    }
}

impl Options {
    fn settled(mut self) -> Self {
        if self.quick {
            (self.pairs, self.seconds) = (2, 0.01);
        }
        self
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|word| name.contains(word.as_str()))
    }
}

fn main() -> std::io::Result<()> {
    match Cli::parse().command {
        Command::Memory(options) => {
            let options = options.settled();
            let report = memory::measure(&options);
            print(&report, &options)
        }
        #[cfg(feature = "rabbitmq")]
        Command::Rabbitmq(options) => {
            let options = options.settled();
            print(&rabbitmq::measure(&options), &options.options)
        }
        #[cfg(feature = "kafka")]
        Command::Kafka(options) => {
            let options = options.settled();
            print(&kafka::measure(&options), &options.options)
        }
        Command::Work { messages, way } => {
            println!("{messages} messages in {:?}", work::work(messages, way));
            Ok(())
        }
    }
}

fn print(report: &Report, options: &Options) -> std::io::Result<()> {
    if options.json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{report}");
    }
    match &options.svg {
        Some(file) => std::fs::write(file, plot::svg(report)),
        None => Ok(()),
    }
}
