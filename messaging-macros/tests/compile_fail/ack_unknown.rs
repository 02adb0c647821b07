use messaging_macros::listener;

#[listener(queue = "orders", ack = auto)]
async fn handle_order() {}

fn main() {}
