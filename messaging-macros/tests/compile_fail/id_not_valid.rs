use messaging_macros::listener;

#[listener(queue = "orders", id = "handle_order")]
async fn handle_order() {}

fn main() {}
