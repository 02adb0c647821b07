//! Testing a listener: the memory broker, and a paused clock, under which retries of minutes take no time.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Duration;

use adapter_memory::{MemoryServer, PublishFault};
use messaging::{App, Attempt, Bytes, HandlerError, Result, listener, listeners};

#[listener(queue = "orders", retry(attempts = 4, initial = "1min", max = "10min", jitter = false))]
async fn place(_: Bytes, Attempt(attempt): Attempt) -> Result<(), HandlerError> {
    if attempt < 3 { Err(HandlerError::new("the shop is closed")) } else { Ok(()) }
}

/// In a project of yours this is a `#[tokio::test(start_paused = true)]`.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<()> {
    let server = MemoryServer::private();
    let mut app = App::new().broker("main", server.broker()).mount(listeners![place]);
    let orders = app.publisher("orders");
    let running = app.start().await?;

    let begun = tokio::time::Instant::now();
    orders.publish("an order").await?;
    while running.ledger().total().acked < 1 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("handled at the third attempt, after {:?} that took no time", begun.elapsed());
    assert!(begun.elapsed() >= Duration::from_secs(180), "one minute, then two");

    server.fail_publishes(1, PublishFault::Refused);
    if let Err(error) = orders.publish("another").await {
        println!("and when the broker refuses: {error}");
    }
    assert_eq!(running.ledger().total().retried, 2);
    running.shutdown().await?;
    Ok(())
}
