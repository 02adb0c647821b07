use messaging_macros::listener;

#[listener(queue = "orders", retry(initial = "fast"))]
async fn handle_order() {}

fn main() {}
