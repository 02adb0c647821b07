use messaging_macros::listener;

#[listener(queue = "orders", topic = "weather")]
async fn handle_order() {}

fn main() {}
