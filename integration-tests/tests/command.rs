//! The command for people, used as a person does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use integration_tests::{
    Kind, Way, available,
    child::{Child, Role},
    or_skip, own_by, raw, shared,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

const SURE: Duration = Duration::from_secs(60);

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_integration-tests"));
    command.kill_on_drop(true);
    command
}

async fn output(arguments: &[&str]) -> Output {
    timeout(SURE, command().args(arguments).output()).await.expect("ended in time").unwrap()
}

/// `up` says where the broker is in a line for the shell, the broker is there, and Ctrl-C ends both.
#[tokio::test]
async fn up_prints_an_address_that_answers_and_ends_at_ctrl_c() {
    if or_skip(available(Kind::Redis)).unwrap().is_none() {
        return;
    }
    let mut up = command().args(["up", "redis"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();

    let line = timeout(SURE, lines.next_line()).await.expect("said in time").unwrap().unwrap();
    let url = line.strip_prefix("export MESSAGING_REDIS_URL=").expect("a line for the shell").to_owned();
    raw::round_trip(Kind::Redis, &url).await.unwrap();
    let pid = up.id().unwrap().to_string();
    Command::new("kill").args(["-INT", &pid]).status().await.unwrap();

    let status = timeout(SURE, up.wait()).await.expect("ended in time").unwrap();
    assert!(status.success(), "{status}");
    raw::round_trip(Kind::Redis, &url).await.unwrap_err();
}

#[tokio::test]
async fn an_unknown_broker_is_refused_with_the_known_ones() {
    let said = output(&["up", "rabbitmw"]).await;

    assert!(!said.status.success());
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains("rabbitmw") && text.contains("rabbitmq, kafka, redis"), "{text}");
}

/// Every broker has its line, and what is missing says how to get it.
#[tokio::test]
async fn doctor_says_what_is_missing_and_how_to_get_it() {
    let nowhere = std::env::temp_dir().join("there-is-no-such-folder");
    let doctor =
        command().arg("doctor").env("MESSAGING_BROKER_CACHE", nowhere).env_remove("MESSAGING_REQUIRE_BROKERS").output();
    let said = timeout(SURE, doctor).await.expect("ended in time").unwrap();

    assert!(said.status.success());
    let text = String::from_utf8(said.stdout).unwrap();
    for kind in Kind::ALL {
        let line = text.lines().find(|line| line.starts_with(kind.name()) && line.contains("native")).expect("a line");
        assert!(line.contains("missing") && line.contains("install.sh"), "{line}");
    }
    assert!(text.lines().any(|line| line.starts_with("engine")), "{text}");
}

/// Where brokers are required, a missing one is a failure.
#[tokio::test]
async fn doctor_fails_for_what_is_required() {
    let nowhere = std::env::temp_dir().join("there-is-no-such-folder");
    let mut doctor = command();
    doctor.arg("doctor").env("MESSAGING_BROKER_CACHE", nowhere).env("MESSAGING_REQUIRE_BROKERS", "1");

    let said = timeout(SURE, doctor.output()).await.expect("ended in time").unwrap();

    assert!(!said.status.success());
    assert!(String::from_utf8(said.stderr).unwrap().contains("run integration-tests/install.sh"));
}

/// Not a test: a process whose environment names a broker.
#[tokio::test]
async fn as_a_child() {
    if Role::current().unwrap().is_none() {
        return;
    }
    let broker = shared(Kind::Redis).await.unwrap();
    assert_eq!(broker.way(), Way::Environment);
    raw::round_trip(Kind::Redis, &broker.url()).await.unwrap();
    raw::round_trip(Kind::Redis, &broker.proxied_url()).await.unwrap();
    assert!(broker.proxy().accepted() > 0, "the proxied url does not go by the proxy");
    let refused = broker.kill().await.unwrap_err();
    assert!(refused.to_string().contains("MESSAGING_REDIS_URL"), "{refused}");
}

/// An address in the environment comes first, goes by the proxy too, and cannot be killed.
#[tokio::test]
async fn the_environment_comes_first() {
    let Some(broker) = or_skip(own_by(Kind::Redis, Way::Native).await).unwrap() else { return };
    let variable = format!("{}={}", Kind::Redis.variable(), broker.url());

    let child = Child::start_test_by(&["env", &variable], "as_a_child", "asks", &()).unwrap();

    let status = child.ended(SURE).await.unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(child.output_file()).unwrap());
}

/// An address that nobody answers at is a failure, and no reason to start a server.
#[tokio::test]
async fn an_address_without_a_broker_is_a_failure() {
    if Role::current().unwrap().is_some() {
        return;
    }
    let port = integration_tests::free_port().unwrap();
    let variable = format!("{}=redis://127.0.0.1:{port}/", Kind::Redis.variable());
    let child = Child::start_test_by(&["env", &variable], "as_a_child", "asks", &()).unwrap();

    let status = child.ended(SURE).await.unwrap();

    assert!(!status.success());
    let said = std::fs::read_to_string(child.output_file()).unwrap();
    assert!(said.contains("the redis of MESSAGING_REDIS_URL"), "{said}");
}
