use messaging_macros::listener;

#[listener(queue = "orders", batch(max = 100, wait = "50ms"))]
async fn handle_order() {}

fn main() {}
