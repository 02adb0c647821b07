use messaging_macros::listener;

#[listener(queue = "orders", requires(key_order, "key_order"))]
async fn handle_order() {}

fn main() {}
