use messaging_macros::listener;

#[listener(queue = "Orders")]
async fn handle_order() {}

fn main() {}
