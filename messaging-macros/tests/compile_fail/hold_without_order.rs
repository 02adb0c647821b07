use messaging_macros::listener;

#[listener(queue = "orders", retry_mode = hold)]
async fn handle_order() {}

fn main() {}
