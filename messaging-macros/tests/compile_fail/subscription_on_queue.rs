use messaging_macros::listener;

#[listener(queue = "orders", subscription = "dashboard")]
async fn handle_order() {}

fn main() {}
