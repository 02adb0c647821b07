//! From syntax to meaning: every argument read, every combination checked, all faults told at once.
//!
//! Everything refused here would be refused at start too; the difference is that the compiler points at the word.

mod identity;
mod requires;
mod retry;
mod signature;
mod source;
mod values;

use std::time::Duration;

use messaging_core::suggest::hint;
use messaging_core::{Feature, Lease, Order, RetryMode};
use proc_macro2::Span;
use syn::{Error, Expr, ExprPath, Path, Result, parse_quote};

pub(crate) use self::retry::Retry;
pub(crate) use self::source::{Membership, Source};
use self::values::{At, count, duration, word};
use crate::ast::{Arg, Args, Value};
use crate::function::Function;

/// Every argument, in the order in which documents list them.
const ARGUMENT_NAMES: [&str; 17] = [
    "queue",
    "topic",
    "subscription",
    "ephemeral",
    "filter",
    "start",
    "id",
    "concurrency",
    "prefetch",
    "retry",
    "retry_mode",
    "dead_letter",
    "ack",
    "order_by",
    "timeout",
    "requires",
    "crate",
];

/// A listener in which nothing is left to check but what only the broker and the configuration know.
#[derive(Debug)]
pub(crate) struct Valid {
    /// Where the crate `messaging` is.
    pub(crate) root: Path,
    pub(crate) source: Source,
    pub(crate) id: String,
    pub(crate) concurrency: Option<u64>,
    pub(crate) prefetch: Option<u64>,
    pub(crate) retry: Option<Retry>,
    pub(crate) retry_mode: Option<RetryMode>,
    pub(crate) dead_letter: Option<DeadLetterPolicy>,
    pub(crate) ack: Option<AckMode>,
    pub(crate) order_by: Option<Order>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) requires: Vec<Feature>,
}

/// Policy for a delivery that cannot be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeadLetterPolicy {
    Keep,
    Discard,
}

/// Side that settles a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckMode {
    OnSuccess,
    Manual,
}

/// Reads the arguments for the function they stand on.
///
/// # Errors
/// Every fault of both, each where it stands.
pub(crate) fn validate(args: Args, function: &Function) -> Result<Valid> {
    let mut faults = Faults::default();
    let faults = &mut faults;
    let mut given = Given::new(args, faults);

    let source = source::read(&mut given, faults);
    let id = identity::read(given.take("id"), &function.signature.ident, faults);
    let concurrency = given.take("concurrency").and_then(|arg| count(&arg, "4", NO_WORKER, faults));
    let prefetch = given.take("prefetch").and_then(|arg| count(&arg, "64", NO_DELIVERY, faults));
    let retry = given.take("retry").and_then(|arg| retry::read(&arg, faults));
    let (order_by, retry_mode) = order(&mut given, faults);
    let dead_letter = given.take("dead_letter").and_then(|arg| word(&arg, &DEAD_LETTER_POLICIES, faults));
    let ack = ack(&mut given, function, faults);
    let timeout = given.take("timeout").and_then(|arg| duration(&arg, "30s", faults));
    let requires = given.take("requires").map(|arg| requires::read(&arg, faults)).unwrap_or_default();
    let root = given.take("crate").map_or_else(|| Some(parse_quote!(::messaging)), |arg| root(&arg, faults));

    enough_for_every_worker(prefetch, concurrency, faults);
    ends_within_the_lease(timeout, faults);
    signature::check(function, faults);

    let Some(((source, id), root)) = source.zip(id).zip(root) else { return Err(faults.take()) };
    if faults.any() {
        return Err(faults.take());
    }
    Ok(Valid {
        root,
        source,
        id,
        concurrency: concurrency.map(|at| at.value),
        prefetch: prefetch.map(|at| at.value),
        retry,
        retry_mode: retry_mode.map(|at| at.value),
        dead_letter: dead_letter.map(|at| at.value),
        ack: ack.map(|at| at.value),
        order_by: order_by.map(|at| at.value),
        timeout: timeout.map(|at| at.value),
        requires,
    })
}

const NO_WORKER: &str = "to switch a listener off, do not mount it, or write `enabled = false` in the configuration";
const NO_DELIVERY: &str = "with 0 no delivery would ever arrive; leave it out for the default";
const RETRY_MODES: [(&str, RetryMode); 2] = [("requeue", RetryMode::Requeue), ("hold", RetryMode::Hold)];
const DEAD_LETTER_POLICIES: [(&str, DeadLetterPolicy); 2] =
    [("keep", DeadLetterPolicy::Keep), ("discard", DeadLetterPolicy::Discard)];
const ACK_MODES: [(&str, AckMode); 2] = [("on_success", AckMode::OnSuccess), ("manual", AckMode::Manual)];
const ORDER_WORDS: [(&str, Order); 2] = [("key", Order::ByKey), ("none", Order::None)];

fn root(arg: &Arg, faults: &mut Faults) -> Option<Path> {
    match &arg.value {
        Value::Is(Expr::Path(ExprPath { qself: None, path, .. })) => Some(path.clone()),
        _ => {
            faults.add(arg.value_span(), "`crate` takes a path: write for example `crate = ::my_platform::messaging`");
            None
        }
    }
}

/// Checked against the function only if it could be read: what follows from a wrong word is not worth telling.
fn ack(given: &mut Given, function: &Function, faults: &mut Faults) -> Option<At<AckMode>> {
    let arg = given.take("ack");
    let mode = arg.as_ref().and_then(|arg| word(arg, &ACK_MODES, faults));
    if mode.is_some() == arg.is_some() {
        signature::settles_once(function, mode, faults);
    }
    mode
}

fn order(given: &mut Given, faults: &mut Faults) -> (Option<At<Order>>, Option<At<RetryMode>>) {
    let (order_by, retry_mode) = (given.take("order_by"), given.take("retry_mode"));
    let order = order_by.as_ref().and_then(|arg| word(arg, &ORDER_WORDS, faults));
    let mode = retry_mode.as_ref().and_then(|arg| word(arg, &RETRY_MODES, faults));
    if order.is_some() == order_by.is_some() {
        order_is_kept(order, mode, faults);
    }
    (order, mode)
}

fn enough_for_every_worker(prefetch: Option<At<u64>>, concurrency: Option<At<u64>>, faults: &mut Faults) {
    let Some((prefetch, concurrency)) = prefetch.zip(concurrency) else { return };
    if prefetch.value < concurrency.value {
        let (held, workers) = (prefetch.value, concurrency.value);
        faults.add(
            prefetch.span,
            format!(
                "`prefetch` {held} is less than `concurrency` {workers}: with {held} unsettled deliveries at most, some \
                 workers would never have one; raise `prefetch` to at least {workers}, or leave it out"
            ),
        );
    }
}

fn order_is_kept(order_by: Option<At<Order>>, retry_mode: Option<At<RetryMode>>, faults: &mut Faults) {
    let by_key = order_by.is_some_and(|at| at.value == Order::ByKey);
    match retry_mode {
        Some(At { value: RetryMode::Hold, span }) if !by_key => faults.add(
            span,
            "`retry_mode = hold` keeps the order of a key through retries: add `order_by = key`, or leave `retry_mode` out",
        ),
        Some(At { value: RetryMode::Requeue, span }) if by_key => faults.add(
            span,
            "`retry_mode = requeue` lets later messages of a key overtake a retried one, which `order_by = key` rules out: \
             write `retry_mode = hold`",
        ),
        _ => {}
    }
}

fn ends_within_the_lease(timeout: Option<At<Duration>>, faults: &mut Faults) {
    let Some(At { value, span }) = timeout else { return };
    let most = Lease::default().max;
    if value.is_zero() {
        faults.add(span, "`timeout` must be longer than zero; leave it out for no limit");
    } else if value > most {
        let minutes = most.as_secs() / 60;
        faults.add(span, format!("`timeout` is longer than the {minutes} min for which a delivery can be held"));
    }
}

/// The arguments that are known and not read yet.
struct Given(Vec<Arg>);

impl Given {
    fn new(args: Args, faults: &mut Faults) -> Self {
        let mut given: Vec<Arg> = Vec::new();
        for arg in args.0 {
            let name = arg.name.to_string();
            if !ARGUMENT_NAMES.contains(&name.as_str()) {
                faults.add(arg.name.span(), unknown(&name));
            } else if given.iter().any(|earlier| earlier.name == name) {
                faults.add(arg.name.span(), twice(&name));
            } else {
                given.push(arg);
            }
        }
        Self(given)
    }

    fn take(&mut self, name: &str) -> Option<Arg> {
        let index = self.0.iter().position(|arg| arg.name == name)?;
        Some(self.0.swap_remove(index))
    }
}

fn unknown(name: &str) -> String {
    match name {
        "batch" => "not available yet: `batch`; until it is, a listener takes one message at a time".to_owned(),
        "reply" => "not available yet: `reply`; until it is, publish to the message's `reply_to` by hand".to_owned(),
        "enabled" => {
            "`enabled` is for the configuration alone: write `enabled = false` under `[listeners.…]` there, or do \
                      not mount the listener"
                .to_owned()
        }
        _ => format!("unknown argument `{name}`{}", hint(name, ARGUMENT_NAMES)),
    }
}

fn twice(name: &str) -> String {
    format!("`{name}` is given twice: keep one")
}

/// Faults, collected so that one compilation reports all of them.
#[derive(Default)]
struct Faults(Option<Error>);

impl Faults {
    fn add(&mut self, span: Span, message: impl std::fmt::Display) {
        self.join(Error::new(span, message));
    }

    fn join(&mut self, fault: Error) {
        match &mut self.0 {
            Some(faults) => faults.combine(fault),
            None => self.0 = Some(fault),
        }
    }

    fn any(&self) -> bool {
        self.0.is_some()
    }

    /// The collected faults as one error. Only called where a part is missing, which is never without a fault that says why.
    fn take(&mut self) -> Error {
        self.0.take().unwrap_or_else(|| Error::new(Span::call_site(), "the listener is not valid"))
    }
}
