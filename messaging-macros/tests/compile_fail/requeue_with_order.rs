use messaging_macros::listener;

#[listener(queue = "orders", order_by = key, retry_mode = requeue)]
async fn handle_order() {}

fn main() {}
