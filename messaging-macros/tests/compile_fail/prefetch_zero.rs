use messaging_macros::listener;

#[listener(queue = "orders", prefetch = 0)]
async fn handle_order() {}

fn main() {}
