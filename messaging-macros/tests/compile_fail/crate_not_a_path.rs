use messaging_macros::listener;

#[listener(queue = "orders", crate = "platform")]
async fn handle_order() {}

fn main() {}
