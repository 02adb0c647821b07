use messaging_macros::listener;

#[listener(queue = "orders", colour = "red")]
async fn handle_order() {}

fn main() {}
