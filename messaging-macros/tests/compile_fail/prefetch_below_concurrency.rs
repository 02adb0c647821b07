use messaging_macros::listener;

#[listener(queue = "orders", concurrency = 8, prefetch = 4)]
async fn handle_order() {}

fn main() {}
