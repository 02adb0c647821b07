use messaging_macros::listener;

#[listener(queue = "orders", requires(key_order, delayed_retries))]
async fn handle_order() {}

fn main() {}
