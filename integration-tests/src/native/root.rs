//! Running a program of the Debian root.
//!
//! The root's mounts are made in a mount namespace of the program's own: they are gone when it is, however it ends. The
//! program keeps the pid of the process that was started, so it is paused and killed from outside like any other.

use std::path::Path;
use std::process::Command;

use crate::run;

const PATH_IN_ROOT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// The folder of all runs is at the same path inside and outside, so that configurations need no translation.
const ENTER_SCRIPT: &str = r#"
set -e
root=$1 base=$2; shift 2
mkdir -p "$root$base"
mount --rbind "$base" "$root$base"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"
"#;

/// A command that runs `program` in `root`, with an environment of its own.
pub(super) fn command(root: &Path, program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.env_clear().env("PATH", PATH_IN_ROOT).env("LANG", "C.UTF-8");
    command.args(["--mount", "--propagation", "private", "--", "/bin/sh", "-c", ENTER_SCRIPT, "sh"]);
    command.arg(root).arg(run::base()).arg(program);
    command
}
