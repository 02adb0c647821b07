use messaging_macros::listener;

struct Order;

#[listener(queue = "orders")]
impl Order {}

fn main() {}
