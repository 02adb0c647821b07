use messaging_macros::listener;

#[listener(queue = "orders", requires(3))]
async fn handle_order() {}

fn main() {}
