use messaging_macros::listener;

#[listener(queue = "orders", order_by = none, retry_mode = hold)]
async fn handle_order() {}

fn main() {}
