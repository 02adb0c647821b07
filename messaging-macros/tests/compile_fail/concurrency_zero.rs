use messaging_macros::listener;

#[listener(queue = "orders", concurrency = 0)]
async fn handle_order() {}

fn main() {}
