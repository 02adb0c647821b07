use messaging_macros::listener;

#[listener(queue = "orders", retry(multiplier = 0.5))]
async fn handle_order() {}

fn main() {}
