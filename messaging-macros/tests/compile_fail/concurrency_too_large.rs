use messaging_macros::listener;

#[listener(queue = "orders", concurrency = 4294967296)]
async fn handle_order() {}

fn main() {}
