//! Bad lines: what cannot be read stops nothing; it is in the dead letter with its raw bytes and the number of its line.

use messaging::{Json, Listen, Result};

use crate::input::{Line, Order};
use crate::picture::{self, Progress};
use crate::report::{Faults, Report, expect};
use crate::stage::Stage;

pub(crate) async fn play(stage: &mut Stage, report: &mut Report, lines: &[Line], faults: &mut Faults) -> Result<()> {
    picture::title(
        6,
        "Bad lines",
        "A line that cannot be read stops nothing: it goes to the dead letter, raw, with its number.",
    );
    if report.orders.bad_lines == 0 {
        let spoilt = spoilt(lines);
        if spoilt.is_empty() {
            picture::line("The input has fewer than three lines, so there is nothing to spoil.");
            return Ok(());
        }
        picture::line("The input has none, so here are three spoilt copies of its first lines:");
        let bad = spoil_the_queue(stage, &spoilt).await?;
        report.orders.bad_lines += bad;
        report.orders.dead_lettered += bad;
        if !stage.is_interrupted() {
            expect(faults, "spoilt lines dead-lettered", bad, spoilt.len() as u64);
        }
    }
    show(stage).await
}

/// Three ways to be bad: cut off, of the wrong type, not even text. None if there are fewer than three lines to spoil.
fn spoilt(lines: &[Line]) -> Vec<Line> {
    let [first, second, third, ..] = lines else { return Vec::new() };
    let mut cut = first.bytes.clone();
    cut.truncate(cut.len() * 2 / 3);
    let wrong = String::from_utf8_lossy(&second.bytes)
        .replace("\"quantity\": ", "\"quantity\": \"many\", \"was\": ")
        .into_bytes();
    let mut binary = third.bytes.clone();
    binary.extend([0xff, 0xfe, 0x00]);
    let spoilt = [cut, wrong, binary].into_iter().zip(1..);
    spoilt.map(|(bytes, number)| Line { number, bytes }).collect()
}

async fn spoil_the_queue(stage: &mut Stage, lines: &[Line]) -> Result<u64> {
    let mut app = stage
        .app()
        .listen(Listen::queue("orders").id("server-1").order_by(messaging::Order::ByKey), |_: Json<Order>| async {});
    let publisher = app.publisher("orders");
    let running = app.start().await?;
    let messages = lines.iter().map(super::orders::message).collect::<Result<Vec<_>>>()?;
    let published = stage.publish(publisher.publisher()?, messages, &Progress::of(lines.len())).await?;
    let settled = || running.ledger().total().dead_lettered + running.ledger().total().acked;
    stage.until("spoilt lines settled", published, settled).await?;
    Ok(stage.close(running).await?.total().dead_lettered)
}

async fn show(stage: &mut Stage) -> Result<()> {
    let running = stage.app().start().await?;
    let source = running.source_of("orders")?;
    let letters = running.broker_of("orders")?.inspect().dead_letters(&source, 5).await?;
    for letter in &letters {
        let line = letter.message.headers().get("line").unwrap_or("?");
        let cause = letter.reason.errors.last().map_or("", String::as_str);
        picture::line(&format!("line {line:>4}  {}: {cause}", letter.reason.code));
        picture::line(&format!("           {}", tail(letter.message.payload())));
    }
    stage.close(running).await.map(drop)
}

/// The end of the raw bytes, where the spoilt copies are spoilt; what is no text is shown as \x….
fn tail(raw: &[u8]) -> String {
    let shown: String = raw.utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.extend(
            chunk.valid().chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }),
        );
        text.push_str(&chunk.invalid().escape_ascii().to_string());
        text
    });
    let skip = shown.chars().count().saturating_sub(70);
    let dots = if skip > 0 { "…" } else { "" };
    format!("{dots}{}", shown.chars().skip(skip).collect::<String>())
}
