use messaging_macros::listener;

#[listener(queue = "orders", retry(max = "100ms"))]
async fn handle_order() {}

fn main() {}
