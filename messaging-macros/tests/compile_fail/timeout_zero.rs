use messaging_macros::listener;

#[listener(queue = "orders", timeout = "0s")]
async fn handle_order() {}

fn main() {}
