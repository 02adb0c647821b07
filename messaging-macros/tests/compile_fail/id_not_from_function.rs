use messaging_macros::listener;

#[listener(queue = "orders")]
#[allow(non_snake_case)]
async fn handleOrder() {}

fn main() {}
