use messaging_macros::listener;

#[listener(queue = "orders")]
async unsafe fn handle_order() {}

fn main() {}
