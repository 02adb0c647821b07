use messaging_macros::listener;

#[listener(queue = "orders", timeout = 30)]
async fn handle_order() {}

fn main() {}
