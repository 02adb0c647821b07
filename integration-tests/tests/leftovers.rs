//! Nothing is left: not by a run that ends well, nor by one that panics, is interrupted, or is killed together with its reaper.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use integration_tests::{
    Error, Kind, Result, Way, available, base, brokers_are_required,
    child::{Child, Event, Role},
    or_skip, own_by, until,
};

const LIMIT: Duration = Duration::from_secs(120);
/// The mark that every process of a run carries, as documented.
const MARK: &str = "MESSAGING_BROKER_RUN";

/// Not a test: a process that starts a broker, says so, and ends as it is told.
#[tokio::test]
async fn as_a_child() {
    let Some(role) = Role::current().unwrap() else { return };
    let kind: Kind = role.scenario::<String>().unwrap().parse().unwrap();
    let broker = own_by(kind, Way::Native).await.unwrap();
    role.history().note("up").unwrap();
    match role.name() {
        "well" => drop(broker),
        "exit" => std::process::exit(0),
        "panic" => panic!("as told"),
        // Its end comes from outside.
        _ => std::future::pending().await,
    }
}

/// Twenty runs: five ended by SIGKILL, one of each kind of broker among them.
#[tokio::test]
async fn twenty_runs_leave_nothing() {
    let kinds = [Kind::RabbitMq, Kind::Kafka, Kind::Sqs, Kind::ActiveMq, Kind::Redis];
    for kind in kinds {
        if or_skip(available(kind)).unwrap().is_none() {
            return;
        }
    }
    let before = leftovers();
    for kind in kinds {
        for role in ["killed", "interrupted", "panic", "exit"] {
            // The heavy ones are killed, which is the hard case; a light one stands for all in the others.
            let kind = if role == "killed" { kind } else { Kind::Redis };
            let run = one_run(role, kind).await.unwrap();
            gone(&run).await.unwrap_or_else(|error| panic!("{kind}, {role}: {error}"));
        }
    }
    // The other cases of this program come and go meanwhile.
    let left = || leftovers().difference(&before).cloned().collect::<Vec<_>>();
    let nothing = || async { if left().is_empty() { Ok(()) } else { Err(Error::failed(format!("{:?}", left()))) } };
    until("the end of everything new", Duration::from_secs(20), nothing).await.unwrap();
}

/// What a run that ends well took is given back at once, and not by the reaper.
#[tokio::test]
async fn a_dropped_broker_leaves_nothing() {
    if or_skip(available(Kind::Redis)).unwrap().is_none() {
        return;
    }
    let run = one_run("well", Kind::Redis).await.unwrap();
    gone(&run).await.unwrap();
}

/// With its reaper killed too, a run's remains are swept by the next.
#[tokio::test]
async fn the_next_run_sweeps_what_nobody_reaped() {
    if or_skip(available(Kind::Redis)).unwrap().is_none() {
        return;
    }
    let child = up("killed", Kind::Redis).await.unwrap();
    let run = run_of(&child).unwrap();
    for pid in reapers(&run) {
        assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    }
    child.kill().unwrap();
    assert!(!marked(&run).is_empty(), "the server is gone without anybody to end it");

    let next = one_run("exit", Kind::Redis).await.unwrap();

    gone(&run).await.unwrap();
    gone(&next).await.unwrap();
}

/// Where brokers are required, all of them are there: a suite that tests nothing must not look well.
#[test]
fn required_brokers_are_present() {
    if brokers_are_required() {
        for kind in Kind::ALL {
            available(kind).unwrap();
        }
    }
}

async fn up(role: &str, kind: Kind) -> Result<Child> {
    let child = Child::start_test("as_a_child", role, &kind.name())?;
    let is_up = |event: &Event| matches!(event, Event::Note(text) if text == "up");
    child.reached("a broker", LIMIT, |entries| entries.iter().any(|entry| is_up(&entry.event))).await?;
    Ok(child)
}

/// Starts a child with a broker, has it end as its role says, and returns its run's folder.
async fn one_run(role: &str, kind: Kind) -> Result<PathBuf> {
    let child = up(role, kind).await?;
    // One that ends by itself may already be gone with its folder.
    let run = run_of(&child).unwrap_or_else(|| base().join(format!("run-{}-gone", child.id())));
    match role {
        "killed" => child.kill()?,
        "interrupted" => child.interrupt()?,
        _ => {}
    }
    child.ended(LIMIT).await?;
    Ok(run)
}

fn run_of(child: &Child) -> Option<PathBuf> {
    let prefix = format!("run-{}-", child.id());
    let entries = fs::read_dir(base()).ok()?.flatten();
    entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
}

/// Waits until a run has no folder, no process, no port and no mount.
async fn gone(run: &Path) -> Result<()> {
    until("the end of all a run left", Duration::from_secs(20), || async {
        let processes = marked(run);
        let held = |what: String| Err(Error::failed(what));
        if !processes.is_empty() {
            return held(format!("processes {processes:?} run"));
        }
        if run.exists() {
            return held(format!("{} is there", run.display()));
        }
        if fs::read_to_string("/proc/mounts").is_ok_and(|mounts| mounts.contains(&run.display().to_string())) {
            return held("a mount is there".to_owned());
        }
        let claimed = ports().into_iter().find(|owner| *owner == id_of(run));
        claimed.map_or(Ok(()), |owner| held(format!("a port of {owner} is claimed")))
    })
    .await
}

fn id_of(run: &Path) -> String {
    run.file_name().map(|name| name.to_string_lossy().trim_start_matches("run-").to_owned()).unwrap_or_default()
}

/// Everything of ours that this process can see and that is not of its own run.
fn leftovers() -> BTreeSet<String> {
    let own = format!("run-{}-", std::process::id());
    let runs = fs::read_dir(base()).into_iter().flatten().flatten().map(|entry| entry.path().display().to_string());
    let runs = runs.filter(|path| path.contains("/run-"));
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter(|line| line.contains("messaging-brokers")).map(str::to_owned);
    runs.chain(mounts).filter(|found| !found.contains(&own)).collect()
}

fn marked(run: &Path) -> Vec<u32> {
    let mark = format!("{MARK}={}", id_of(run));
    pids(|pid| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == mark.as_bytes()))
    })
}

/// The shells that wait for this run's end.
fn reapers(run: &Path) -> Vec<u32> {
    let id = id_of(run);
    pids(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<_> = line.split(|byte| *byte == 0).collect();
        arguments.contains(&b"reaper".as_slice()) && arguments.contains(&id.as_bytes())
    })
}

fn pids(of: impl Fn(u32) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| of(*pid)).collect()
}

/// Who holds ports.
fn ports() -> BTreeSet<String> {
    let files = fs::read_dir(base().join("ports")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).map(|text| text.trim().to_owned()).collect()
}
