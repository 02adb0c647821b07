//! The texts of all errors: each names key, file and next step. The snapshots are to be read.

use std::fmt::Write as _;

use messaging::{Config, ErrorKind};

#[cfg(feature = "yaml")]
use crate::load_as;
use crate::{BROKER, load};

/// Compares with a snapshot, without this file's source in it.
macro_rules! shown {
    ($shown:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($shown) })
    };
}

/// Writes each text beside its error.
fn gallery(cases: &[(&str, &[(&str, &str)])]) -> String {
    let mut shown = String::new();
    for (text, environment) in cases {
        let error = load(text, environment).expect_err(text);
        for (name, value) in *environment {
            writeln!(shown, "$ {name}={value}").unwrap();
        }
        writeln!(shown, "{}\n=> {error}\n", text.trim_end()).unwrap();
    }
    shown
}

/// Each case after a valid broker.
fn gallery_of(cases: &[&str]) -> String {
    let texts: Vec<String> = cases.iter().map(|case| format!("{BROKER}{case}")).collect();
    let cases: Vec<(&str, &[(&str, &str)])> = texts.iter().map(|text| (text.as_str(), &[][..])).collect();
    gallery(&cases).replace(BROKER, "")
}

#[test]
fn of_brokers() {
    shown!(gallery(&[
        ("", &[]),
        ("namespace = \"dev\"\n[brokers]", &[]),
        ("brokers = 7", &[]),
        ("[[brokers]]\nurl = \"memory://\"", &[]),
        ("[brokers]\nmain = \"memory://\"", &[]),
        ("[brokers.main]", &[]),
        ("[brokers.main]\nurl = 7", &[]),
        ("[brokers.main]\nurl = \"memory\"", &[]),
        ("[brokers.main]\nurl = \"amqp://me:s3cret@host:x/\"", &[]),
        ("[brokers.Main]\nurl = \"memory://\"", &[]),
        ("[brokers.main]\nurl = \"memory://\"\ntopology = \"creat\"", &[]),
        ("[brokers.main]\nurl = \"memory://\"\ntopology = \"anything\"", &[]),
        ("[brokers.main]\nurl = \"memory://\"\noptions = 5", &[]),
        ("[brokers.main]\nurl = \"memory://\"\nurll = \"x\"\ncapacity = 5", &[]),
        (
            "[brokers.main]\nurl = \"memory://\"\nlonger-than-anything-known-and-still-going-on-and-on-and-on-and-on = 5",
            &[]
        ),
    ]));
}

#[test]
fn of_the_top_level() {
    let cases = ["[broker]", "[app]\nshutdown_timeout = 30", "[app]\nshutdown_timeuot = \"30s\"", "[other]"];
    let mut shown = gallery_of(&cases);
    for top in [
        "namespace = \"Dev\"",
        "namespace = \"\"",
        "namespace = true",
        "namespace = [1]",
        "app = true",
        "listeners = 1",
    ] {
        shown += &gallery(&[(&format!("{top}\n{BROKER}"), &[])]).replace(BROKER, "");
    }
    shown!(shown);
}

#[test]
fn of_bindings() {
    shown!(gallery_of(&[
        "[bindings.orders]",
        "[bindings.orders]\nqueue = \"a\"\ntopic = \"b\"",
        "[bindings.orders]\nqueue = \"a_b\"",
        "[bindings.orders]\ntopic = \"A\"\nsubscription = \"B\"",
        "[bindings.orders]\nqueue = \"a\"\nsubscription = \"b\"",
        "[bindings.orders]\nqueue = \"a\"\nbroker = \"mian\"",
        "[bindings.orders]\nqueue = \"a\"\nbroker = 7",
        "[bindings.orders]\nqueue = \"a\"\nquue = \"b\"\nprefetch = 5",
        "[bindings.orders]\nqueue = 2024",
        "[bindings.orders]\nqueue = \"a\"\norder_by = \"keys\"",
        "[bindings.orders]\nqueue = \"a\"\nnative = true",
        "[bindings.Orders]\nqueue = \"a\"",
        "[bindings.orders.eu]\nqueue = \"a\"",
        "[brokers.other]\nurl = \"memory://\"\n[bindings.a]\nqueue = \"a\"\nnative = \"A\"\n[bindings.b]\nqueue = \"a\"\nnative = \"B\"",
        "[publishers.orders]\nin_flight = 1\n[bindings.order]\nqueue = \"orders\"",
    ])
    .replace("[brokers.main]\nurl = \"memory://shop\"", ""));
}

#[test]
fn of_bindings_without_a_default_broker() {
    shown!(gallery(&[(
        "[brokers.one]\nurl = \"memory://\"\n[brokers.two]\nurl = \"memory://\"\n[bindings.a]\nqueue = \"a\"",
        &[],
    )]));
}

#[test]
fn of_listeners() {
    let cases: Vec<String> = [
        "concurrency = 0",
        "concurrency = -1",
        "concurrency = 1.5",
        "concurrency = \"four\"",
        "concurrency = true",
        "prefetch = 0",
        "prefetch = [64]",
        "prefech = 64",
        "retry = 5",
        "retry = { attempts = 0 }",
        "retry = { attempts = 4294967296 }",
        "retry = { attempt = 5 }",
        "retry = { initial = 200 }",
        "retry = { initial = \"soon\" }",
        "retry = { initial = \"40s\", max = \"30s\" }",
        "retry = { multiplier = 0.5 }",
        "retry = { multiplier = nan }",
        "retry = { multiplier = \"double\" }",
        "retry = { jitter = 1 }",
        "retry_mode = \"holds\"",
        "dead_letter = \"drop\"",
        "dead_letter = false",
        "ack = \"manually\"",
        "order_by = \"keys\"",
        "filter = \"stock.**\"",
        "filter = \"\"",
        "start = \"latest\"",
        "timeout = \"0s\"",
        "timeout = 1979-05-27",
        "requires = \"key_ordr\"",
        "requires = [\"delayd_retry\", \"key_order\", \"teleport\"]",
        "requires = [7]",
        "requires = 7",
        "enabled = \"maybe\"",
        "queue = \"orders\"",
    ]
    .iter()
    .map(|line| format!("[listeners.handle-order]\n{line}"))
    .collect();
    let cases: Vec<&str> = cases.iter().map(String::as_str).collect();
    shown!(gallery_of(&cases).replace("[listeners.handle-order]\n", ""));
}

#[test]
fn of_publishers() {
    let cases = [
        "in_flight = 0",
        "in_flight = 1000001",
        "in_flight_bytes = 0",
        "timeout = \"0s\"",
        "no_subscriber = \"refused\"",
        "inflight = 5",
    ];
    let cases: Vec<String> = cases.iter().map(|line| format!("[publishers.orders]\n{line}")).collect();
    let cases: Vec<&str> = cases.iter().map(String::as_str).collect();
    shown!(gallery_of(&cases).replace("[publishers.orders]\n", ""));
}

#[test]
fn of_variables() {
    shown!(gallery(&[
        ("[brokers.main]\nurl = \"${SHOP_URL}\"", &[]),
        ("[brokers.main]\nurl = \"${SHOP_URL\"", &[]),
        ("[brokers.main]\nurl = \"${}\"", &[]),
        ("[brokers.main]\nurl = \"${SHOP_URL}\"", &[("SHOP_URL", "s3cret")]),
        ("[brokers.main]\nurl = \"memory://\"\ntopology = \"${MODE}\"", &[("MODE", "s3cret")]),
        ("[brokers.main]\nurl = \"memory://\"\noptions = { a = { b = [\"${DEEP}\"] } }", &[]),
        ("namespace = \"${NAME}\"\n[brokers.main]\nurl = \"memory://\"", &[("NAME", "S3cret")]),
        ("[brokers.main]\nurl = \"memory://\"\n[listeners.a]\ntimeout = \"${T}\"", &[("T", "s3cret")]),
        ("[brokers.main]\nurl = \"memory://\"\n[listeners.a]\nrequires = [\"${T}\"]", &[("T", "s3cret")]),
        ("[brokers.main]\nurl = \"memory://\"\n[listeners.a]\nconcurrency = \"${N:-0}\"", &[]),
    ]));
}

#[test]
fn of_overrides() {
    shown!(gallery(&[
        (BROKER, &[("MESSAGING__BROKERS__MAIN__URI", "s3cret")]),
        (BROKER, &[("MESSAGING__BROKERS__MAIN__TOPOLOGY", "s3cret")]),
        (BROKER, &[("MESSAGING__BROKERS__MAIN", "s3cret")]),
        (BROKER, &[("MESSAGING__LISTENERS__HANDLE_ORDER__CONCURRENCY", "many")]),
        (BROKER, &[("MESSAGING__LISTENERS__HANDLE_ORDER__TIMEOUT", "s3cret")]),
        (BROKER, &[("MESSAGING__NAMESPACE", "S3cret")]),
        (BROKER, &[("MESSAGING__NAMSPACE", "dev")]),
        (BROKER, &[("MESSAGING__", "x"), ("MESSAGING__A____B", "x")]),
    ]));
}

#[cfg(feature = "yaml")]
#[test]
fn of_files() {
    let mut shown = String::new();
    for (name, text) in [
        ("app.toml", "[brokers.main\nurl = 1"),
        ("app.toml", "[brokers.main]\nurl = \"amqp://me:s3cret@host"),
        ("app.toml", "a = 1\na = 2"),
        ("app.json", "{\"brokers\": {\"main\": s3cret}}"),
        ("app.json", "{\"a\": 1, \"a\": 2}"),
        ("app.json", "[]"),
        ("app.yaml", "brokers:\n  main: [s3cret"),
        ("app.yaml", "a: 1\na: 2"),
        ("app.yaml", "brokers:\n  main:\n    url:\n"),
        ("app.yml", "- a\n"),
        ("app.tom", ""),
        ("app.ini", ""),
        ("app", ""),
    ] {
        writeln!(shown, "{name}: {text:?}\n=> {}\n", load_as(name, text, &[]).unwrap_err()).unwrap();
    }
    assert!(!shown.lines().any(|line| line.starts_with("=>") && line.contains("s3cret")));
    shown!(shown);
}

#[test]
fn of_a_missing_file_with_the_path_as_given_and_the_working_directory() {
    let error = Config::load("no/such/app.toml").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let directory = std::env::current_dir().unwrap();
    assert_eq!(
        error.text(),
        format!(
            "the configuration file no/such/app.toml cannot be read: there is no such file; the working directory is {}",
            directory.display()
        )
    );
    // A directory, and bytes that are no text.
    let directory = tempfile::TempDir::with_suffix(".toml").unwrap();
    assert_eq!(Config::load(directory.path()).unwrap_err().kind(), ErrorKind::Config);
    let path = directory.path().join("app.toml");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(Config::load(&path).unwrap_err().text().contains("not UTF-8"));
}

#[test]
fn of_several_faults_at_once() {
    let text = r#"
        namespace = "Dev"
        colour = "red"
        [brokers.main]
        url = "memory"
        topologie = "create"
        [bindings.orders]
        queue = "a"
        topic = "b"
        [bindings.weather]
        topic = "weather"
        broker = "mian"
        [listeners.handle-order]
        concurrency = 0
        prefetch = 0
        retry = { attempts = 0 }
        requires = ["flying", "swimming"]
    "#;
    let error = load(text, &[("MESSAGING__APP__SHUTDOWN_TIMEOUT", "later")]).unwrap_err();
    shown!(error);
}

#[test]
fn of_code() {
    let mut shown = String::new();
    for (path, value) in
        [("", "x"), ("brokers..url", "x"), ("brokers.\"main.url", "x"), ("brokers.main.uri", "x"), ("namespace", "A")]
    {
        let built = Config::builder().toml(BROKER).set(path, value).build();
        writeln!(shown, "set {path:?}\n=> {}\n", built.unwrap_err()).unwrap();
    }
    let many = Config::builder().toml(BROKER).set("listeners.a.concurrency", 0).build().unwrap_err();
    writeln!(shown, "{many}").unwrap();
    writeln!(shown, "{}", Config::from_toml("[brokers.main]\nurk = 1").unwrap_err()).unwrap();
    shown!(shown);
}
