use messaging_macros::listener;

#[listener(queue = "orders", order_by = subject)]
async fn handle_order() {}

fn main() {}
