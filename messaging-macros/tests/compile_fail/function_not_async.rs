use messaging_macros::listener;

#[listener(queue = "orders")]
fn handle_order() {}

fn main() {}
