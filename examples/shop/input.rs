//! The data: what the lines mean, and where they come from.

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A purchase.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Order {
    pub(crate) order: u64,
    pub(crate) customer: String,
    pub(crate) date: String,
    pub(crate) quantity: u32,
    pub(crate) total: f64,
}

impl Order {
    /// The total in cents, which add up exactly.
    pub(crate) fn cents(&self) -> i64 {
        (self.total * 100.0).round() as i64
    }
}

/// The weather of a day; what the shop does not look at is left out.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Weather {
    pub(crate) date: String,
    pub(crate) precipitation_mm: f64,
    pub(crate) weather: String,
}

/// The price of a share in a month.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Price {
    pub(crate) symbol: String,
    pub(crate) date: String,
    pub(crate) price: f64,
}

/// One line of input, as it stands, and its number from 1.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) bytes: Vec<u8>,
}

/// The lines of the orders: those that come along, of a file, or of standard input.
///
/// # Errors
/// Reason why the file could not be read, with its name.
pub(crate) fn order_lines(from: Option<&Path>) -> io::Result<Vec<Line>> {
    let bytes = match from {
        None => include_bytes!("data/orders.ndjson").to_vec(),
        Some(path) if path.as_os_str() == "-" => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes)?;
            bytes
        }
        Some(path) => std::fs::read(path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot read the orders from {}: {error}", path.display()))
        })?,
    };
    Ok(lines(&bytes))
}

pub(crate) fn weather_lines() -> Vec<Line> {
    lines(include_bytes!("data/weather.ndjson"))
}

pub(crate) fn stock_lines() -> Vec<Line> {
    lines(include_bytes!("data/stocks.ndjson"))
}

/// The lines that are not empty. They may be anything, also no text at all.
fn lines(bytes: &[u8]) -> Vec<Line> {
    let numbered = bytes.split(|byte| *byte == b'\n').enumerate();
    let lines = numbered.map(|(index, line)| Line { number: index + 1, bytes: line.trim_ascii().to_vec() });
    lines.filter(|line| !line.bytes.is_empty()).collect()
}
