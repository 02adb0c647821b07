use messaging_macros::listener;

#[listener(queue = "orders", ack = "manuel")]
async fn handle_order() {}

fn main() {}
