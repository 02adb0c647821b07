use messaging_macros::listener;

#[listener(queue = "orders", dead_letter = drop)]
async fn handle_order() {}

fn main() {}
