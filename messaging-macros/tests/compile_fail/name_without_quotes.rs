use messaging_macros::listener;

#[listener(queue = orders)]
async fn handle_order() {}

fn main() {}
