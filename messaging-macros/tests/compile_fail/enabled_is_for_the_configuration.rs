use messaging_macros::listener;

#[listener(queue = "orders", enabled = false)]
async fn handle_order() {}

fn main() {}
