use messaging_macros::listener;

#[listener(queue = "orders")]
const ORDER: u8 = 1;

fn main() {}
