use messaging_macros::listener;

struct Message<'a>(&'a ());

#[listener(queue = "orders")]
async fn handle_order<'a>(_value: Message<'a>) {}

fn main() {}
