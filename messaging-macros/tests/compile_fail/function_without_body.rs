use messaging_macros::listener;

#[allow(async_fn_in_trait)]
trait Handles {
    #[listener(queue = "orders")]
    async fn handle_order();
}

fn main() {}
