use messaging_macros::listener;

#[listener(queue = , concurrency = 4)]
async fn handle_order() {}

fn main() {}
