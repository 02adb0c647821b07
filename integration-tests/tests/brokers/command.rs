//! The command for people, used as a person does.

use std::process::{Output, Stdio};
use std::time::Duration;

use integration_tests::cases;
use integration_tests::child::{Child, Role};
use integration_tests::runner::{Case, Verdict};
use integration_tests::{Kind, Way, available, own_by, raw, shared};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

const SURE: Duration = Duration::from_secs(60);
/// Role of the child that asks for the broker of its environment.
pub(crate) const ASKS: &str = "asks";

pub(crate) fn cases() -> Vec<Case> {
    cases![
        up_prints_an_address_that_answers_and_ends_at_ctrl_c,
        an_unknown_broker_is_refused_with_the_known_ones,
        doctor_says_what_is_missing_and_how_to_get_it,
        doctor_fails_for_what_is_required,
        a_case_without_its_broker_is_ignored_or_fails,
        the_environment_comes_first,
        an_address_without_a_broker_is_a_failure,
    ]
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_integration-tests"));
    command.kill_on_drop(true);
    command
}

async fn output(arguments: &[&str]) -> Output {
    timeout(SURE, command().args(arguments).output()).await.expect("ended in time").unwrap()
}

/// `up` says where the broker is in a line for the shell, the broker is there, and Ctrl-C ends both.
async fn up_prints_an_address_that_answers_and_ends_at_ctrl_c() -> Verdict {
    available(Kind::Redis)?;
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
    Ok(())
}

async fn an_unknown_broker_is_refused_with_the_known_ones() -> Verdict {
    let said = output(&["up", "rabbitmw"]).await;

    assert!(!said.status.success());
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains("rabbitmw") && text.contains("rabbitmq, kafka, redis"), "{text}");
    Ok(())
}

/// Every broker has its line, and what is missing says how to get it.
async fn doctor_says_what_is_missing_and_how_to_get_it() -> Verdict {
    let nowhere = std::env::temp_dir().join("there-is-no-such-folder");
    let doctor =
        command().arg("doctor").env("MESSAGING_BROKER_CACHE", nowhere).env_remove("MESSAGING_REQUIRE_BROKERS").output();
    let said = timeout(SURE, doctor).await.expect("ended in time").unwrap();

    assert!(said.status.success());
    let text = String::from_utf8(said.stdout).unwrap();
    for kind in Kind::ALL_KINDS {
        let line = text.lines().find(|line| line.starts_with(kind.name()) && line.contains("native")).expect("a line");
        assert!(line.contains("missing") && line.contains("install.sh"), "{line}");
    }
    assert!(text.lines().any(|line| line.starts_with("engine")), "{text}");
    Ok(())
}

/// Where brokers are required, a missing one is a failure.
async fn doctor_fails_for_what_is_required() -> Verdict {
    let nowhere = std::env::temp_dir().join("there-is-no-such-folder");
    let mut doctor = command();
    doctor.arg("doctor").env("MESSAGING_BROKER_CACHE", nowhere).env("MESSAGING_REQUIRE_BROKERS", "1");

    let said = timeout(SURE, doctor.output()).await.expect("ended in time").unwrap();

    assert!(!said.status.success());
    assert!(String::from_utf8(said.stderr).unwrap().contains("run integration-tests/install.sh"));
    Ok(())
}

/// This very program without a cache: its cases end as ignored with the reason, or, where brokers are required, fail with it.
async fn a_case_without_its_broker_is_ignored_or_fails() -> Verdict {
    let nowhere = std::env::temp_dir().join("there-is-no-such-folder");
    let case = "command::up_prints_an_address_that_answers_and_ends_at_ctrl_c";
    for (required, verdict) in [("0", "0 failed; 1 ignored"), ("1", "1 failed; 0 ignored")] {
        let mut program = Command::new(std::env::current_exe()?);
        program.args([case, "--exact"]).env("MESSAGING_BROKER_CACHE", &nowhere);
        program.env("MESSAGING_REQUIRE_BROKERS", required).kill_on_drop(true);

        let said = timeout(SURE, program.output()).await.expect("ended in time")?;

        let text = String::from_utf8(said.stdout)?;
        assert!(text.contains(verdict) && text.contains("0 passed"), "{text}");
        assert!(text.contains("run integration-tests/install.sh"), "{text}");
    }
    Ok(())
}

/// Role of a child whose environment names a broker.
pub(crate) async fn ask_for_the_broker_of_the_environment(_: Role) -> Verdict {
    let broker = shared(Kind::Redis).await?;
    assert_eq!(broker.way(), Way::Environment);
    raw::round_trip(Kind::Redis, &broker.url()).await?;
    raw::round_trip(Kind::Redis, &broker.proxied_url()).await?;
    assert!(broker.proxy().accepted() > 0, "the proxied url does not go by the proxy");
    let refused = broker.kill().await.unwrap_err();
    assert!(refused.to_string().contains("MESSAGING_REDIS_URL"), "{refused}");
    Ok(())
}

/// An address in the environment comes first, goes by the proxy too, and cannot be killed.
async fn the_environment_comes_first() -> Verdict {
    let broker = own_by(Kind::Redis, Way::Native).await?;
    let variable = format!("{}={}", Kind::Redis.variable(), broker.url());

    let child = Child::start_by(&["env", &variable], ASKS, &())?;

    let status = child.ended(SURE).await?;
    assert!(status.success(), "{}", std::fs::read_to_string(child.output_file())?);
    Ok(())
}

/// An address that nobody answers at is a failure, and no reason to start a server.
async fn an_address_without_a_broker_is_a_failure() -> Verdict {
    let port = integration_tests::free_port()?;
    let variable = format!("{}=redis://127.0.0.1:{port}/", Kind::Redis.variable());
    let child = Child::start_by(&["env", &variable], ASKS, &())?;

    let status = child.ended(SURE).await?;

    assert!(!status.success());
    let said = std::fs::read_to_string(child.output_file())?;
    assert!(said.contains("the redis of MESSAGING_REDIS_URL"), "{said}");
    Ok(())
}
