use messaging_macros::listener;

#[listener(queue = "orders")]
struct Order;

fn main() {}
