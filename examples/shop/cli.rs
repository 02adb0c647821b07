//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// A shop on real data: orders, groups, weather and share prices through queues and topics, every message accounted for.
///
/// The program names no broker. Which one it runs on, the file given with --config says.
#[derive(Debug, Parser)]
#[command(name = "shop")]
pub(crate) struct Cli {
    /// The configuration file [default: memory.toml beside this program's source]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Orders to use instead of the 6,919 that come along: one JSON object a line, "-" for standard input
    #[arg(long, value_name = "FILE|-")]
    pub(crate) orders: Option<PathBuf>,

    /// Print one JSON object with all counts as the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
}

impl Cli {
    pub(crate) fn config(&self) -> PathBuf {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/shop/memory.toml");
        self.config.clone().unwrap_or_else(|| PathBuf::from(beside))
    }
}
