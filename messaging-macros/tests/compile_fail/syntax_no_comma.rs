use messaging_macros::listener;

#[listener(queue = "orders" concurrency = 4)]
async fn handle_order() {}

fn main() {}
