use messaging_macros::listener;

struct Settle;

#[listener(queue = "orders", ack = on_success)]
async fn handle_order(_settle: Settle) {}

fn main() {}
