use messaging_macros::listener;

#[listener(queue = "orders", concurrency = -1)]
async fn handle_order() {}

fn main() {}
