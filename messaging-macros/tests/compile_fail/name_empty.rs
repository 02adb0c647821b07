use messaging_macros::listener;

#[listener(queue = "")]
async fn handle_order() {}

fn main() {}
