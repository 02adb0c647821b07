use messaging_macros::{listener, listeners};

/// Each fault is told in one compilation, and nothing that only follows from it: neither the call of the function nor
/// the mounting is reported.
#[listener(queue = "orders", concurrency = 0, acks = manual, dead_letter = drop)]
async fn handle_order(_message: &str) {}

fn main() {
    let _: Vec<()> = listeners![handle_order];
    drop(handle_order(""));
}
