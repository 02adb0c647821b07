//! The scenes, one after the other.

mod bad_lines;
mod groups;
mod orders;
mod poison;
mod retries;
mod stocks;
mod weather;

use messaging::Result;

use crate::input::Line;
use crate::report::{Faults, Report};
use crate::stage::Stage;

/// Plays all scenes, or as many as there are until the user asks to stop. Returns what did not add up.
///
/// # Errors
/// Reason why a scene could not go on.
pub(crate) async fn play(stage: &mut Stage, report: &mut Report, orders: Vec<Line>) -> Result<Faults> {
    let mut faults = Faults::new();
    let orders = stage.that_fit("orders", orders, orders::message).await?;
    orders::play(stage, report, &orders, &mut faults).await?;
    if !stage.is_interrupted() {
        retries::play(stage, &orders, &mut faults).await?;
    }
    if !stage.is_interrupted() {
        groups::play(stage, report, &orders, &mut faults).await?;
    }
    if !stage.is_interrupted() {
        weather::play(stage, report, &mut faults).await?;
    }
    if !stage.is_interrupted() {
        stocks::play(stage, report, &mut faults).await?;
    }
    if !stage.is_interrupted() {
        poison::play(stage, report, &orders, &mut faults).await?;
    }
    if !stage.is_interrupted() {
        bad_lines::play(stage, report, &orders, &mut faults).await?;
    }
    Ok(faults)
}

/// The orders among the lines; lines that are none are left out.
fn readable(lines: &[Line]) -> impl Iterator<Item = crate::input::Order> {
    lines.iter().filter_map(|line| serde_json::from_slice(&line.bytes).ok())
}
