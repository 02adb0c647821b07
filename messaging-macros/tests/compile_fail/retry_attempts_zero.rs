use messaging_macros::listener;

#[listener(queue = "orders", retry(attempts = 0))]
async fn handle_order() {}

fn main() {}
