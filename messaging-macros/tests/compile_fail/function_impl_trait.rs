use messaging_macros::listener;

#[listener(queue = "orders")]
async fn handle_order(_value: impl Send) {}

fn main() {}
