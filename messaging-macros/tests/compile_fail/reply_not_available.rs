use messaging_macros::listener;

#[listener(queue = "orders", reply)]
async fn handle_order() {}

fn main() {}
