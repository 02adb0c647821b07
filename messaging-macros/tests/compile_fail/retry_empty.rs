use messaging_macros::listener;

#[listener(queue = "orders", retry())]
async fn handle_order() {}

fn main() {}
