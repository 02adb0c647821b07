use messaging_macros::listener;

#[listener(queue = "orders", retry(jitter = "yes"))]
async fn handle_order() {}

fn main() {}
