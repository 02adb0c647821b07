use messaging_macros::listener;

struct Attempt;

#[listener(queue = "orders")]
async fn handle_order(
    _a: Attempt,
    _b: Attempt,
    _c: Attempt,
    _d: Attempt,
    _e: Attempt,
    _f: Attempt,
    _g: Attempt,
    _h: Attempt,
    _i: Attempt,
) {
}

fn main() {}
