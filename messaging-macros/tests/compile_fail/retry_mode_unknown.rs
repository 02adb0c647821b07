use messaging_macros::listener;

#[listener(queue = "orders", retry_mode = drop)]
async fn handle_order() {}

fn main() {}
