//! Middleware is `tower`: any layer goes around a listener, here one that times every call.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use messaging::{App, Bytes, Incoming, Listen, Listener, Result};
use tower::ServiceExt;
use tower::layer::layer_fn;

async fn sleepy(work: Bytes) {
    tokio::time::sleep(std::time::Duration::from_millis(work.len() as u64)).await;
}

#[tokio::main]
async fn main() -> Result<()> {
    let timed = layer_fn(|service: messaging::HandlerService<_, _>| {
        tower::service_fn(move |incoming: Incoming| {
            let (service, listener, begun) = (service.clone(), incoming.listener().to_owned(), Instant::now());
            async move {
                let result = service.oneshot(incoming).await;
                println!("{listener}: {:?} after {:?}", result, begun.elapsed());
                result
            }
        })
    });
    let mut app = App::new().mount([Listener::layered(Listen::queue("work"), timed, sleepy)]);
    let work = app.publisher("work");
    let running = app.start().await?;
    for size in [5, 1] {
        work.publish(vec![b'x'; size]).await?;
    }
    while running.ledger().total().acked < 2 {
        tokio::task::yield_now().await;
    }
    running.shutdown().await?;
    Ok(())
}
