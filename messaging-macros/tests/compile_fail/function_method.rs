use messaging_macros::listener;

struct Shop;

impl Shop {
    #[listener(queue = "orders")]
    async fn handle_order(&self) {}
}

fn main() {}
