//! Bounded retries, the dead letter with its reason, and a redrive after the fix.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use messaging::{App, Attempt, Bytes, Redrive, Result, listener, listeners};

static FIXED: AtomicBool = AtomicBool::new(false);

#[listener(queue = "invoices", retry(attempts = 3, initial = "10ms"))]
async fn print_invoice(invoice: Bytes, Attempt(attempt): Attempt) -> io::Result<()> {
    println!("attempt {attempt} at {} bytes", invoice.len());
    if FIXED.load(Ordering::Relaxed) { Ok(()) } else { Err(io::Error::other("the printer is out of paper")) }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut app = App::new().mount(listeners![print_invoice]);
    let invoices = app.publisher("invoices");
    let running = app.start().await?;
    invoices.publish("invoice 17").await?;
    while running.ledger().total().dead_lettered < 1 {
        tokio::task::yield_now().await;
    }

    let (broker, source) = (running.broker_of("invoices")?, running.source_of("invoices")?);
    for letter in broker.inspect().dead_letters(&source, 10).await? {
        println!("{} after {} attempts: {:?}", letter.reason.code, letter.attempts, letter.reason.errors);
    }

    FIXED.store(true, Ordering::Relaxed);
    assert_eq!(broker.repair().redrive(&source, Redrive::All).await?, 1);
    while running.ledger().total().acked < 1 {
        tokio::task::yield_now().await;
    }
    println!("{}", running.shutdown().await?.ledger);
    Ok(())
}
