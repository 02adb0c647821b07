//! The container way, on an engine started by hand.
//!
//! This program starts itself again in a throwaway host: network, mounts and processes of its own, all gone with its first
//! process. There it starts an engine, makes images from the Debian root (none can be expected to be pulled), and runs the fault cases
//! on containers. The images carry the official ones' names, so the path to them is the one that a developer's machine takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use integration_tests::child::{Child, Event, Role};
use integration_tests::{Error, Kind, Result, Way, available, own_by, run_folder, until};

use integration_tests::runner::{Case, Verdict};

/// Those that the container way knows.
pub(crate) const KINDS: &[Kind] = &[Kind::RabbitMq, Kind::Redis, Kind::Valkey];

const LIMIT: Duration = Duration::from_secs(300);
const ENGINE: Duration = Duration::from_secs(60);

const RABBITMQ: &str = r#"CMD ["/bin/sh", "-c", "echo 'loopback_users = none' >/etc/rabbitmq/rabbitmq.conf; export RUNNING_UNDER_SYSTEMD=1; exec /usr/lib/rabbitmq/bin/rabbitmq-server"]"#;

/// The role of the child that starts an engine and runs the cases.
pub(crate) const HOST: &str = "host";
/// Role of the child that is killed while it has a container.
pub(crate) const ABANDONED: &str = "abandoned";

/// The case, as the suite sees it: ignored with the reason where there is no engine to start.
pub(crate) fn case() -> Case {
    Case::new("containers::every_fault", inside_a_host).within(LIMIT + ENGINE).of_kind(Way::Container)
}

fn present() -> Result<()> {
    for kind in KINDS {
        available(*kind)?;
    }
    let present = |program: &str| {
        ["/usr/sbin", "/usr/bin", "/usr/local/bin"].iter().any(|at| Path::new(at).join(program).exists())
    };
    match ["dockerd", "docker", "iptables", "ip"].into_iter().find(|program| !present(program)) {
        Some(lacking) => {
            Err(Error::missing(format!("{lacking} is missing: run integration-tests/install.sh --containers")))
        }
        None => Ok(()),
    }
}

async fn inside_a_host() -> Verdict {
    present()?;
    // Short, because a socket's path has at most 107 characters.
    let folder = run_folder()?.join("engine-host");
    fs::create_dir_all(&folder)?;
    let temporary = format!("TMPDIR={}", folder.display());
    let docker = format!("DOCKER_HOST=unix://{}/docker.sock", folder.display());
    let host = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let settings = ["env", &temporary, &docker, "MESSAGING_BROKER_WAY=container"];
    let child = Child::start_by(&[host.as_slice(), &settings].concat(), HOST, &folder)?;

    let status = child.ended(LIMIT).await?;

    let output = fs::read_to_string(child.output_file())?;
    // Its cases are shown as they are, so that nobody takes one line for one case.
    let shown = ["test [container]", "broker ", "test result:"];
    for line in output.lines().filter(|line| shown.iter().any(|start| line.starts_with(start))) {
        eprintln!("in containers: {line}");
    }
    fs::remove_dir_all(&folder)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the cases in containers ended with {status}:\n{output}").into())
    }
}

/// What this program does as the child of the case below: it starts a container, says where its run is, and waits for its end.
pub(crate) async fn abandoned(role: Role) -> Verdict {
    let _broker = own_by(Kind::Redis, Way::Container).await?;
    role.history().note(run_folder()?.display().to_string())?;
    std::future::pending().await
}

/// A run that is killed with a container leaves none: its reaper has the engine remove it.
pub(crate) async fn killed_run_leaves_no_container() -> Verdict {
    let child = Child::start(ABANDONED, &())?;
    child.reached("a container", ENGINE, |entries| !entries.is_empty()).await?;
    let Some(Event::Note(folder)) = child.history()?.into_iter().next().map(|entry| entry.event) else {
        return Err("the child did not say where its run is".into());
    };
    let id = folder.rsplit("run-").next().unwrap_or_default();
    let label = format!("label=messaging-broker-run={id}");
    if containers(&label)?.is_empty() {
        return Err(format!("no container has the {label}").into());
    }

    child.kill()?;

    until("the end of the container", ENGINE, || async {
        let left = containers(&label)?;
        if left.is_empty() { Ok(()) } else { Err(Error::failed(format!("{left} is there"))) }
    })
    .await?;
    Ok(())
}

fn containers(filter: &str) -> Result<String> {
    let output = Command::new("docker").args(["ps", "--all", "--quiet", "--filter", filter]).output();
    let output = output.map_err(|error| Error::caused("cannot run docker", error))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Starts the engine and makes the images; for the child in its own host.
pub(crate) async fn start(role: &Role) -> Verdict {
    let folder: PathBuf = role.scenario()?;
    ran(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    // The engine keeps sockets there that outlive it.
    ran(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]))?;
    let run = env::var("MESSAGING_BROKER_RUN")?;
    let at = |name: &str| folder.join(name).display().to_string();
    let log = fs::File::create(folder.join("engine.log"))?;
    let mut engine = Command::new("dockerd")
        .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
        .args(["--host", &format!("unix://{}", at("docker.sock")), "--ip", "127.0.0.1"])
        .args(["--cgroup-parent", &format!("/messaging-{run}")])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    until("a container engine", ENGINE, || {
        let ended = engine.try_wait();
        let log = fs::read_to_string(folder.join("engine.log")).unwrap_or_default();
        async move {
            match ended {
                Ok(Some(status)) => Err(Error::failed(format!("it ended with {status}: {log}"))),
                _ => ran(Command::new("docker").arg("version")),
            }
        }
    })
    .await?;
    images()?;
    Ok(())
}

/// One image of the Debian root, named once for each server with the command that runs it.
fn images() -> Result<()> {
    let cache = env::var("MESSAGING_BROKER_CACHE")
        .unwrap_or_else(|_| format!("{}/.cache/messaging-brokers", env::var("HOME").unwrap_or_default()));
    let root = format!("{cache}/debian-trixie");
    let import = "tar -C \"$1\" --exclude ./opt --exclude ./usr/share/doc -c . | docker import - debian-with-brokers";
    ran(Command::new("sh").args(["-c", import, "sh", &root]))?;
    ran(Command::new("docker").args(["create", "--name", "made", "debian-with-brokers", "true"]))?;
    let redis = |server: &str| {
        format!(
            r#"CMD ["/usr/bin/{server}-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--appendonly", "yes", "--appendfsync", "always", "--save", ""]"#
        )
    };
    for (command, name) in [
        (RABBITMQ.to_owned(), "rabbitmq:4-management"),
        (redis("redis"), "redis:8"),
        (redis("valkey"), "valkey/valkey:8"),
    ] {
        ran(Command::new("docker").args(["commit", "--change", &command, "made", name]))?;
    }
    Ok(())
}

fn ran(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| Error::caused(format!("cannot run {command:?}"), error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::failed(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))))
}
