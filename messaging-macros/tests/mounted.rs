//! A listener made by the macro at work, and overridden by the configuration under its id.

use messaging::{App, Attempt, Config, Message, PublisherExt, State, listener, listeners};
use tokio::sync::mpsc::{Sender, channel};

type Seen = Sender<(Message, u32)>;

/// Fails once for each message.
#[listener(queue = "orders", concurrency = 2, retry(attempts = 2, initial = "1ms"))]
async fn handle_order(message: Message, attempt: Attempt, State(seen): State<Seen>) -> Result<(), String> {
    seen.send((message, attempt.0)).await.map_err(|_| "nobody looks".to_owned())?;
    if attempt.0 == 1 { Err("not yet".to_owned()) } else { Ok(()) }
}

#[listener(queue = "orders", id = "audit")]
async fn audit() {
    panic!("switched off by the configuration");
}

/// Fragments of `macro_rules!` reach the attribute inside groups without delimiters.
macro_rules! listening_to {
    ($name:ident, $queue:literal, $attempts:literal, $mode:expr, $need:ident) => {
        #[listener(queue = $queue, retry(attempts = $attempts), ack = $mode, requires($need))]
        async fn $name(_: Message) {}
    };
}

listening_to!(from_a_macro, "made", 3, on_success, dead_letter);

#[test]
fn values_that_come_through_a_macro_are_read() {
    assert_eq!(listeners![from_a_macro][0].id(), "from-a-macro");
}

#[tokio::test]
async fn it_handles_what_is_published() {
    let (seen, mut sees) = channel::<(Message, u32)>(8);
    let config = Config::from_toml("[brokers.main]\nurl = \"memory://\"\n[listeners.audit]\nenabled = false").unwrap();
    let running = App::with_config(config).state(seen).mount(listeners![handle_order, audit]).start().await.unwrap();

    running.publisher("orders").await.unwrap().publish(Message::new("one")).await.unwrap();
    let (first, second) = (sees.recv().await.unwrap(), sees.recv().await.unwrap());
    let report = running.shutdown().await.unwrap();

    assert_eq!((first.1, second.1), (1, 2));
    assert_eq!(second.0.payload(), "one");
    assert_eq!(report.ledger.listener("handle-order").unwrap().acked, 1);
    assert!(report.ledger.listener("audit").is_none() && report.ledger.balanced());
}
