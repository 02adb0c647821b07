//! Nothing is left: not by a run that ends well, nor by one that panics, is interrupted, or is killed together with its reaper.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use integration_tests::cases;
use integration_tests::child::{Child, Event, Role};
use integration_tests::runner::{Case, Verdict};
use integration_tests::{Error, Kind, Result, Way, available, base, own_by, run_folder, until};

const LIMIT: Duration = Duration::from_secs(120);
/// Each of the runs has a limit of its own.
const TWENTY_RUNS_LIMIT: Duration = Duration::from_secs(900);
/// The mark that every process of a run carries, as documented.
const MARK: &str = "MESSAGING_BROKER_RUN";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases =
        cases![a_dropped_broker_leaves_nothing, the_next_run_sweeps_what_nobody_reaped, every_broker_is_present,];
    cases.push(Case::new("leftovers::twenty_runs_leave_nothing", twenty_runs_leave_nothing).within(TWENTY_RUNS_LIMIT));
    cases
}

/// Roles of the children: start a broker, note the folder of the run, and end as the role says.
pub(crate) async fn play(role: Role) -> Verdict {
    let kind: Kind = role.scenario::<String>()?.parse()?;
    let broker = own_by(kind, Way::Native).await?;
    role.history().note(run_folder()?.display().to_string())?;
    match role.name() {
        "well" => {
            drop(broker);
            role.history().note(format!("left: {:?}", marked(run_folder()?)))?;
            Ok(())
        }
        "exit" => std::process::exit(0),
        "panic" => panic!("as told"),
        // Its end comes from outside.
        _ => std::future::pending().await,
    }
}

/// Twenty runs: five ended by SIGKILL, one of each kind of broker among them.
async fn twenty_runs_leave_nothing() -> Verdict {
    let kinds = [Kind::RabbitMq, Kind::Kafka, Kind::Sqs, Kind::ActiveMq, Kind::Redis];
    for kind in kinds {
        available(kind)?;
    }
    let before = leftovers();
    for kind in kinds {
        for role in ["killed", "interrupted", "panic", "exit"] {
            // The heavy ones are killed, which is the hard case; a light one stands for all in the others.
            let kind = if role == "killed" { kind } else { Kind::Redis };
            let gone = async { gone(&one_run(role, kind).await?).await };
            gone.await.map_err(|error: Error| error.within(format!("{kind}, {role}")))?;
        }
    }
    // The other cases of this program come and go meanwhile.
    let left = || leftovers().difference(&before).cloned().collect::<Vec<_>>();
    let nothing = || async { if left().is_empty() { Ok(()) } else { Err(Error::failed(format!("{:?}", left()))) } };
    until("the end of everything new", Duration::from_secs(20), nothing).await?;
    Ok(())
}

/// What a broker took is given back when it is dropped, and not by the reaper: nothing of it runs while its process still does.
async fn a_dropped_broker_leaves_nothing() -> Verdict {
    available(Kind::Redis)?;
    let (child, run) = up("well", Kind::Redis).await?;

    assert!(child.ended(LIMIT).await?.success());

    let left = |entry: &Event| matches!(entry, Event::Note(text) if text == "left: []");
    assert!(child.history()?.iter().any(|entry| left(&entry.event)), "{:?}", child.history()?);
    gone(&run).await?;
    Ok(())
}

/// With its reaper killed too, a run's remains are swept by the next.
async fn the_next_run_sweeps_what_nobody_reaped() -> Verdict {
    available(Kind::Redis)?;
    let (child, run) = up("killed", Kind::Redis).await?;
    let reapers = reapers(&run);
    assert!(!reapers.is_empty(), "nobody waits for the end of {}", run.display());
    for pid in reapers {
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status()?.success());
    }
    child.kill()?;
    assert!(!marked(&run).is_empty(), "the server is gone without anybody to end it");

    let next = one_run("exit", Kind::Redis).await?;

    gone(&run).await?;
    gone(&next).await?;
    Ok(())
}

/// Where brokers are required, all of them are there: a suite that tests nothing must not look well.
async fn every_broker_is_present() -> Verdict {
    for kind in Kind::ALL_KINDS {
        available(kind)?;
    }
    Ok(())
}

/// A child with a broker, and its run's folder.
async fn up(role: &str, kind: Kind) -> Result<(Child, PathBuf)> {
    let child = Child::start(role, &kind.name())?;
    child.reached("a broker", LIMIT, |entries| !entries.is_empty()).await?;
    let run = match child.history()?.into_iter().next().map(|entry| entry.event) {
        Some(Event::Note(path)) => PathBuf::from(path),
        other => return Err(Error::failed(format!("a child began with {other:?} and not with its run's folder"))),
    };
    Ok((child, run))
}

/// Starts a child with a broker, has it end as its role says, and returns its run's folder.
async fn one_run(role: &str, kind: Kind) -> Result<PathBuf> {
    let (child, run) = up(role, kind).await?;
    match role {
        "killed" => child.kill()?,
        "interrupted" => child.interrupt()?,
        _ => {}
    }
    child.ended(LIMIT).await?;
    Ok(run)
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

/// Everything of ours that this process can see and whose run is over: another program's may well be going on.
fn leftovers() -> BTreeSet<String> {
    let runs = fs::read_dir(base()).into_iter().flatten().flatten().map(|entry| entry.path().display().to_string());
    let runs = runs.filter(|path| path.contains("/run-"));
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter(|line| line.contains("messaging-brokers")).map(str::to_owned);
    runs.chain(mounts).filter(|found| !goes_on(found)).collect()
}

/// Whether the process that began the run of this path or mount is there.
fn goes_on(found: &str) -> bool {
    let owner = found.split_once("/run-").and_then(|(_, run)| run.split_once('-')).map(|(pid, _)| pid);
    owner.is_some_and(|pid| Path::new("/proc").join(pid).exists())
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
