//! `retry(…)`: what differs from the default policy.

use std::time::Duration;

use messaging_core::suggest::hint;
use syn::parse::{Parse, Parser};

use super::values::{At, count, duration, factor, flag};
use super::{Faults, twice};
use crate::ast::{Arg, Args, Value};

const RETRY_ARGUMENTS: [&str; 5] = ["attempts", "initial", "max", "multiplier", "jitter"];

const NO_RETRY: &str = "the first delivery counts too; write `attempts = 1` for no retries";

/// The waits of the default policy, `Retry::default()` of the crate `messaging`, which is not there yet when this runs.
const DEFAULT_INITIAL: Duration = Duration::from_millis(200);
const DEFAULT_MAX: Duration = Duration::from_secs(30);

/// Fields that differ from the default policy.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    pub(crate) attempts: Option<u64>,
    pub(crate) initial: Option<Duration>,
    pub(crate) max: Option<Duration>,
    pub(crate) multiplier: Option<f64>,
    pub(crate) jitter: Option<bool>,
}

pub(super) fn read(arg: &Arg, faults: &mut Faults) -> Option<Retry> {
    let list = match &arg.value {
        Value::List(list) if !list.stream().is_empty() => list.stream(),
        _ => {
            faults.add(
                arg.value_span(),
                "`retry` lists what differs from the default: write for example `retry(attempts = 5, initial = \"200ms\")`",
            );
            return None;
        }
    };
    match Args::parse.parse2(list) {
        Ok(args) => Some(read_list(args, faults)),
        Err(fault) => {
            faults.join(fault);
            None
        }
    }
}

fn read_list(args: Args, faults: &mut Faults) -> Retry {
    let mut retry = Retry::default();
    let (mut initial, mut max) = (None, None);
    let mut seen: Vec<String> = Vec::new();
    for arg in args.0 {
        let name = arg.name.to_string();
        if seen.contains(&name) {
            faults.add(arg.name.span(), twice(&name));
            continue;
        }
        match name.as_str() {
            "attempts" => retry.attempts = count(&arg, "5", NO_RETRY, faults).map(|at| at.value),
            "initial" => initial = duration(&arg, "200ms", faults),
            "max" => max = duration(&arg, "30s", faults),
            "multiplier" => retry.multiplier = factor(&arg, "2.0", faults).map(|at| at.value),
            "jitter" => retry.jitter = flag(&arg, faults).map(|at| at.value),
            _ => faults
                .add(arg.name.span(), format!("unknown argument `{name}` of `retry`{}", hint(&name, RETRY_ARGUMENTS))),
        }
        seen.push(name);
    }
    let unread = |name: &str, is_read: bool| !is_read && seen.iter().any(|given| given == name);
    if !unread("initial", initial.is_some()) && !unread("max", max.is_some()) {
        waits_can_grow(initial, max, faults);
    }
    retry.initial = initial.map(|at| at.value);
    retry.max = max.map(|at| at.value);
    retry
}

fn waits_can_grow(initial: Option<At<Duration>>, max: Option<At<Duration>>, faults: &mut Faults) {
    match (initial, max) {
        (Some(initial), Some(max)) if max.value < initial.value => {
            faults.add(max.span, "`max` is shorter than `initial`: no retry may wait longer than `max`");
        }
        (Some(initial), None) if initial.value > DEFAULT_MAX => {
            faults.add(
                initial.span,
                format!("`initial` is longer than `max`, which is {DEFAULT_MAX:?} here: write `max` too"),
            );
        }
        (None, Some(max)) if max.value < DEFAULT_INITIAL => faults.add(
            max.span,
            format!("`max` is shorter than `initial`, which is {DEFAULT_INITIAL:?} here: write `initial` too"),
        ),
        _ => {}
    }
}
