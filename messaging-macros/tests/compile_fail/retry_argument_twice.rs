use messaging_macros::listener;

#[listener(queue = "orders", retry(attempts = 5, attempts = 3))]
async fn handle_order() {}

fn main() {}
