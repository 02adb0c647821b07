use messaging_macros::listener;

#[listener(queue = "orders", retry = 5)]
async fn handle_order() {}

fn main() {}
