use messaging_macros::listener;

struct Settle;

#[listener(queue = "orders")]
async fn handle_order(_settle: Settle) {}

fn main() {}
