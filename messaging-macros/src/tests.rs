//! Expansion of tokens by the macros. The places that errors point to is shown by the cases in `tests/compile_fail`.

use proc_macro2::TokenStream;
use quote::quote;

use crate::expand::listener;
use crate::listeners::listeners;

/// The chain of calls for `arguments`, from `Listen` to the end of it.
#[track_caller]
fn listen(arguments: TokenStream) -> String {
    let made = listener(
        arguments,
        quote!(
            async fn handle_order(context: Context) {}
        ),
    )
    .to_string();
    assert!(!made.contains("compile_error"), "{made}");
    let (_, call) = made.split_once("Listener :: new (").unwrap();
    call.split_once(", handle_order) } }").unwrap().0.replace(" :: messaging :: ", "").replace(":: messaging :: ", "")
}

/// Every message of the errors for `arguments` on `item`.
#[track_caller]
fn faults_on(arguments: TokenStream, item: TokenStream) -> Vec<String> {
    let made = listener(arguments, item).to_string();
    let faults: Vec<String> = made
        .split("compile_error ! {")
        .skip(1)
        .map(|rest| rest.split_once('}').map_or(rest, |(text, _)| text).trim().trim_matches('"').to_owned())
        .collect();
    assert!(!faults.is_empty(), "{made}");
    faults
}

#[track_caller]
fn faults(arguments: TokenStream) -> Vec<String> {
    faults_on(
        arguments,
        quote!(
            async fn handle_order(context: Context) {}
        ),
    )
}

#[track_caller]
fn fault(arguments: TokenStream) -> String {
    let mut all = faults(arguments);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[track_caller]
fn same(given: String, expected: TokenStream) {
    assert_eq!(given.replace(' ', ""), expected.to_string().replace(' ', ""));
}

#[test]
fn a_listener_is_its_function_and_a_companion() {
    let made = listener(
        quote!(queue = "orders"),
        quote! {
            /// Documented.
            #[cfg(unix)]
            #[allow(unused)]
            pub(crate) async fn handle_order(Json(order): Json<Order>) -> Result<(), HandlerError> { body }
        },
    );
    same(
        made.to_string(),
        quote! {
            /// Documented.
            #[cfg(unix)]
            #[allow(unused)]
            pub(crate) async fn handle_order(Json(order): Json<Order>) -> Result<(), HandlerError> { body }
            #[cfg(unix)]
            const _: () = {
                fn __extractor<T: ::messaging::FromDelivery>() {}
                fn __returned<T: ::messaging::IntoHandled>() {}
                fn __sent<T: ::core::marker::Send>(_: T) {}
                fn __explain(argument_0: Json<Order>) {
                    __extractor::<Json<Order> >();
                    __returned::<Result<(), HandlerError> >();
                    __sent(handle_order(argument_0))
                }
            };
            #[cfg(unix)]
            #[doc(hidden)]
            #[allow(non_camel_case_types, missing_debug_implementations)]
            pub(crate) enum handle_order {}
            #[cfg(unix)]
            impl handle_order {
                #[must_use]
                pub fn listener() -> ::messaging::Listener {
                    ::messaging::Listener::new(::messaging::Listen::queue("orders").id("handle-order"), handle_order)
                }
            }
        },
    );
}

#[test]
fn every_argument_is_one_call() {
    same(
        listen(quote! {
            queue = "orders", id = "first", concurrency = 4, prefetch = 64,
            retry(attempts = 3, initial = "200ms", max = "1m", multiplier = 1.5, jitter = false),
            retry_mode = hold, dead_letter = discard, ack = manual, order_by = key, timeout = "1500us",
            requires(key_order, "delayed_retry"),
        }),
        quote! {
            Listen::queue("orders").id("first").concurrency(4).prefetch(64)
                .retry(Retry::default().attempts(3).initial(::core::time::Duration::from_millis(200))
                    .max(::core::time::Duration::from_secs(60)).multiplier(1.5).jitter(false))
                .retry_mode(RetryMode::Hold).dead_letter(DeadLetterPolicy::Discard).ack(AckMode::Manual)
                .order_by(Order::ByKey).timeout(::core::time::Duration::new(0, 1500000))
                .requires(Feature::KeyOrder).requires(Feature::DelayedRetry)
        },
    );
    same(
        listen(quote!(topic = "stocks", subscription = "apple", filter = "stock.*", start = "earliest")),
        quote!(
            Listen::topic("stocks").subscription("apple").filter("stock.*").start(Start::Earliest).id("handle-order")
        ),
    );
    same(
        listen(quote!(topic = "weather", ephemeral, order_by = none, retry_mode = "requeue", ack = on_success)),
        quote! {
            Listen::topic("weather").ephemeral().id("handle-order").retry_mode(RetryMode::Requeue)
                .ack(AckMode::OnSuccess).order_by(Order::None)
        },
    );
    same(
        listen(quote!(topic = "weather", start = new, dead_letter = "keep")),
        quote! {
            Listen::topic("weather").start(Start::New).id("handle-order").dead_letter(DeadLetterPolicy::Keep)
        },
    );
}

#[test]
fn the_crate_may_stand_elsewhere() {
    let made = listener(
        quote!(queue = "orders", order_by = none, crate = platform::bus),
        quote!(
            async fn a() {}
        ),
    );
    assert!(!made.to_string().contains(":: messaging"), "{made}");
    assert!(made.to_string().contains("platform :: bus :: Order :: None"), "{made}");
}

#[test]
fn a_raw_function_name_becomes_a_plain_id() {
    let made = listener(
        quote!(queue = "orders"),
        quote!(
            async fn r#match() {}
        ),
    )
    .to_string();
    assert!(made.contains("id (\"match\")") && made.contains("enum r#match"), "{made}");
}

#[test]
fn all_faults_are_told_at_once() {
    let all = faults_on(
        quote!(concurrency = 0, acks = manual, ack = never),
        quote!(
            fn handle(&self) {}
        ),
    );
    let expected = ["acks", "says where it listens", "`concurrency`", "never", "async fn", "free function"];
    assert_eq!(all.len(), expected.len(), "{all:?}");
    for part in expected {
        assert!(all.iter().any(|fault| fault.contains(part)), "{part}: {all:?}");
    }
}

#[test]
fn a_wrong_type_says_what_to_write() {
    for (arguments, expected) in [
        (quote!(queue = orders), "queue = \\\"orders\\\""),
        (quote!(queue), "queue = \\\"orders\\\""),
        (quote!(queue = "a", concurrency = "4"), "concurrency = 4"),
        (quote!(queue = "a", concurrency = -1), "at least 1"),
        (quote!(queue = "a", prefetch = 99999999999), "at most 4294967295"),
        (quote!(queue = "a", prefetch(4)), "prefetch = 64"),
        (quote!(queue = "a", timeout = 30), "timeout = \\\"30s\\\""),
        (quote!(queue = "a", ack(manual)), "ack = on_success"),
        (quote!(queue = "a", retry = 3), "retry(attempts = 5"),
        (quote!(queue = "a", retry()), "retry(attempts = 5"),
        (quote!(queue = "a", retry(jitter)), "jitter = true"),
        (quote!(queue = "a", retry(jitter = "yes")), "jitter = true"),
        (quote!(queue = "a", retry(multiplier = 0.5)), "at least 1"),
        (quote!(queue = "a", retry(initial = "1m", max = 3)), "max = \\\"30s\\\""),
        (quote!(queue = "a", requires = "ttl"), "requires(key_order"),
        (quote!(queue = "a", requires(ttl, 3)), "requires(key_order"),
        (quote!(queue = "a", crate = "other"), "takes a path"),
        (quote!(topic = "a", ephemeral = true), "written alone"),
    ] {
        let shown = arguments.to_string();
        let told = fault(arguments);
        assert!(told.contains(expected), "{shown}: {told}");
    }
}

#[test]
fn what_the_start_would_refuse_is_refused() {
    for (arguments, expected) in [
        (quote!(queue = "a", timeout = "31min"), "30 min"),
        (quote!(queue = "a", timeout = "0s"), "longer than zero"),
        (quote!(queue = "a", retry(initial = "2s", max = "1s")), "shorter than `initial`"),
        (quote!(queue = "a", retry(initial = "1m")), "`max`, which is 30s here"),
        (quote!(queue = "a", retry(max = "0s")), "`initial`, which is 200ms here"),
        (quote!(queue = "a", retry(attempts = 3, attempts = 4)), "given twice"),
        (quote!(queue = "a", requires(ttl, ttl)), "listed twice"),
        (quote!(queue = "a", enabled = false), "enabled = false"),
        (quote!(subscription = "a"), "add `topic"),
    ] {
        let shown = arguments.to_string();
        let told = fault(arguments);
        assert!(told.contains(expected), "{shown}: {told}");
    }
}

#[test]
fn settle_and_manual_are_checked_only_where_the_types_show_it() {
    let unknown = listener(
        quote!(queue = "a", ack = manual),
        quote!(
            async fn a(Json(x): Json<X>, y: Mine) {}
        ),
    );
    assert!(!unknown.to_string().contains("compile_error"), "{unknown}");
    let settled = listener(
        quote!(queue = "a", ack = manual),
        quote!(
            async fn a(settle: messaging::Settle) {}
        ),
    );
    assert!(!settled.to_string().contains("compile_error"), "{settled}");
    let visible = faults_on(
        quote!(queue = "a", ack = manual),
        quote!(
            async fn a(Json(x): Json<X>) {}
        ),
    );
    assert!(visible[0].contains("`Settle`"), "{visible:?}");
}

#[test]
fn what_only_follows_from_a_wrong_word_is_not_told() {
    let told = faults_on(
        quote!(queue = "a", ack = manuel),
        quote!(
            async fn a(settle: Settle) {}
        ),
    );
    assert_eq!(told.len(), 1, "{told:?}");
    fault(quote!(queue = "a", order_by = keys, retry_mode = hold));
}

#[test]
fn an_invalid_listener_leaves_the_function_and_a_stand_in() {
    let made = listener(
        quote!(queue = "orders", oops),
        quote!(
            pub async fn a() {}
        ),
    )
    .to_string();
    assert!(made.starts_with("pub async fn a () { }"), "{made}");
    assert!(made.contains("pub enum a { }") && made.contains("fn listener"), "{made}");
    let method = listener(
        quote!(queue = "orders"),
        quote!(
            async fn a(&self) {}
        ),
    )
    .to_string();
    assert!(!method.contains("enum"), "an item cannot stand among methods: {method}");
}

#[test]
fn an_unfinished_body_is_left_to_the_compiler() {
    let made = listener(quote!(queue = "orders"), quote!(async fn a() { let x = ; })).to_string();
    assert!(!made.contains("compile_error"), "{made}");
}

#[test]
fn listeners_are_found_by_path() {
    same(
        listeners(quote!(a, orders::b, ::other::c,)).to_string(),
        quote!(::std::vec![a::listener(), orders::b::listener(), ::other::c::listener()]),
    );
    same(listeners(quote!()).to_string(), quote!(::std::vec![]));
    for wrong in [quote!(a()), quote!(a::<B>), quote!("a"), quote!(a b), quote!(a, a)] {
        let shown = wrong.to_string();
        assert!(listeners(wrong).to_string().contains("compile_error"), "{shown}");
    }
}
