use messaging_macros::listener;

#[listener(queue = "orders", retry(initial = "1min"))]
async fn handle_order() {}

fn main() {}
