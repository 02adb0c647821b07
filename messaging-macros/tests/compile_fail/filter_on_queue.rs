use messaging_macros::listener;

#[listener(queue = "orders", filter = "stock.*")]
async fn handle_order() {}

fn main() {}
