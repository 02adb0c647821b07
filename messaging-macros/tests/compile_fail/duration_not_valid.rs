use messaging_macros::listener;

#[listener(queue = "orders", timeout = "soon")]
async fn handle_order() {}

fn main() {}
