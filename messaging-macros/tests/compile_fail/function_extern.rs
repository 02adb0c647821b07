use messaging_macros::listener;

#[listener(queue = "orders")]
async extern "C" fn handle_order() {}

fn main() {}
