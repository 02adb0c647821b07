use messaging_macros::listener;

#[listener(queue = "orders", start = earliest)]
async fn handle_order() {}

fn main() {}
