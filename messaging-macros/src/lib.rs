//! `#[listener(…)]` and `listeners![…]` of the crate `messaging`, which re-exports both: depend on that one.
//!
//! The attribute is sugar. It leaves the function as it is and adds a companion of the same name that makes the
//! `Listener` by the calls that one would write by hand; `docs/listeners.md` shows both forms side by side. What is wrong
//! in an attribute is told while compiling, all of it at once, each fault at the word it is about.
//!
//! An attribute goes through four rooms: `ast` reads its syntax, `valid` gives it a meaning or collects what is wrong,
//! `expand` writes the code of a valid listener, with `explain` for what only the compiler can judge, `fallback` what stands
//! in for a listener that is not valid.

mod ast;
mod expand;
mod explain;
mod fallback;
mod function;
mod listeners;
mod valid;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes a listener of an `async fn` whose arguments are extractors.
///
/// ```no_run
/// use messaging::{App, HandlerError, Json, State, listener, listeners};
/// # #[derive(Clone)] struct Shop;
/// # #[derive(serde::Deserialize)] struct Order;
/// # impl Shop { async fn store(&self, _: Order) -> std::io::Result<()> { Ok(()) } }
///
/// #[listener(queue = "orders", concurrency = 4, retry(attempts = 3))]
/// async fn handle_order(Json(order): Json<Order>, State(shop): State<Shop>) -> Result<(), HandlerError> {
///     shop.store(order).await?;
///     Ok(())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> messaging::Result<()> {
/// App::new().state(Shop).mount(listeners![handle_order]).run().await?;
/// # Ok(())
/// # }
/// ```
///
/// The function stays as it is, with its documentation and attributes, and can be called in a test. Beside it stands a
/// type of the same name whose `listener()` makes the `Listener`: by it [`listeners!`] finds the listener by the path of
/// the function, a `use` of the function brings it along, and `handle_order::listener().layer(…)` puts a layer around
/// this one alone. There can therefore be no other type or module of that name beside the function. A listener that is
/// mounted nowhere is reported by the compiler as never used, where the function is not public.
///
/// # Arguments
///
/// The names in quotes are bindings, which the configuration maps to destinations. Every argument but the first four and
/// `crate` has a key of the same name under `[listeners.ID]` in the configuration, which wins over the code. Words can be
/// written bare or in quotes; lengths of time are text such as `"500ms"`, `"30s"` or `"5min"`.
///
/// | argument | meaning | default |
/// |---|---|---|
/// | `queue = "…"` | listens at a queue, competing with its other consumers | this or `topic` |
/// | `topic = "…"` | listens at a topic | this or `queue` |
/// | `subscription = "…"` | by the durable subscription of this name | what the binding names |
/// | `ephemeral` | by a subscription that sees only what is published while it is attached | |
/// | `filter = "stock.*"` | subjects to see: `*` one word, `#` any number; topics only | all |
/// | `start = new \| earliest` | where a durable subscription begins when it is made | `new` |
/// | `id = "…"` | by which the configuration, the ledger and the log know it | the function's name, `_` as `-` |
/// | `concurrency = n` | deliveries handled at a time, from 1 | 1 |
/// | `prefetch = n` | unsettled deliveries held at most, at least `concurrency` | 64, or twice `concurrency` if more |
/// | `retry(attempts = n, initial = "…", max = "…", multiplier = x, jitter = bool)` | what follows an error | 5 attempts, 200 ms doubling to 30 s, with jitter |
/// | `retry_mode = requeue \| hold` | whether later messages of the key wait for a retried one | `hold` with `order_by = key`, else `requeue` |
/// | `dead_letter = keep \| discard` | what follows the last attempt | `keep` |
/// | `ack = on_success \| manual` | whether the function's result or its argument `Settle` settles the delivery | `on_success` |
/// | `order_by = key \| none` | whether messages of one key are handled in order | `none` |
/// | `timeout = "30s"` | how long the function may take, up to 30 min | no limit |
/// | `requires(…)` | features that the broker must have here, such as `key_order` | |
/// | `crate = path` | where the crate `messaging` is, if a crate of your own re-exports it | `::messaging` |
///
/// # Errors
///
/// A fault in an argument, in a combination of them or in the function's signature is a compile error that says
/// what is allowed. `batch(…)` and `reply` are not available yet and say so.
#[proc_macro_attribute]
pub fn listener(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::listener(arguments.into(), item.into()).into()
}

/// A vector with the listeners of functions that have [`macro@listener`], for `App::mount`.
///
/// ```
/// use messaging::{App, listener, listeners};
///
/// mod weather {
///     #[messaging::listener(topic = "weather", ephemeral)]
///     pub(crate) async fn show() {}
/// }
///
/// #[listener(queue = "orders")]
/// async fn handle_order() {}
///
/// let app = App::new().mount(listeners![handle_order, weather::show]);
/// # drop(app);
/// ```
///
/// # Errors
///
/// Anything but paths, and a path listed twice, is a compile error. Where the compiler says that a function "is not a crate
/// or module", the function lacks its `#[listener]`.
#[proc_macro]
pub fn listeners(paths: TokenStream) -> TokenStream {
    listeners::listeners(paths.into()).into()
}
