use messaging_macros::listener;

#[listener(queue = "orders")]
#[listener(queue = "returns", concurrency = 2)]
async fn handle_order() {}

fn main() {}
