use messaging_macros::listener;

#[listener(queue = "orders", dead_letter = 3)]
async fn handle_order() {}

fn main() {}
