use messaging_macros::listener;

#[listener(queue = "orders", retry(initial = "2s", max = "1s"))]
async fn handle_order() {}

fn main() {}
