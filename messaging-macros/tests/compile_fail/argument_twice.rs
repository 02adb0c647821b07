use messaging_macros::listener;

#[listener(queue = "orders", prefetch = 64, concurrency = 4, prefetch = 32)]
async fn handle_order() {}

fn main() {}
