use messaging_macros::listener;

#[listener(queue = "orders", timeout = "31min")]
async fn handle_order() {}

fn main() {}
