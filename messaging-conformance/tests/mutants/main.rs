//! Mutants: brokers that break one promise each. The suite is worth something only if a named case kills each of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod administering;
mod consuming;
mod declaring;
mod living;
mod publishing;
mod settling;
mod stage;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use messaging_conformance::intercept::Intercept;
use messaging_conformance::{Case, Ending, Flavour, Harness, Running, all_cases, run_case};

use self::stage::{Mutated, Shared, Twist};

/// A broker that breaks one promise.
pub(crate) struct Mutant {
    /// What it does wrong.
    pub(crate) name: &'static str,
    /// The case that has to notice.
    pub(crate) killer: &'static str,
    /// What it does between the case and the memory broker.
    pub(crate) make: fn(&Arc<Shared>) -> Arc<dyn Intercept>,
    /// What it does besides.
    pub(crate) twist: Twist,
}

/// Lists mutants: name, killer, how it is made of the state that broker and stage share, and a twist of the stage.
macro_rules! mutants {
    ($($name:ident, $killer:ident, $make:expr $(, $twist:ident)?;)+) => {
        pub(crate) const MUTANTS: &[$crate::Mutant] = &[$($crate::Mutant {
            name: stringify!($name),
            killer: stringify!($killer),
            make: $make,
            twist: mutants!(@twist $($twist)?),
        }),+];
    };
    (@twist) => { $crate::stage::Twist::None };
    (@twist $twist:ident) => { $crate::stage::Twist::$twist };
}
pub(crate) use mutants;

const ALL: [&[Mutant]; 6] = [
    publishing::MUTANTS,
    consuming::MUTANTS,
    settling::MUTANTS,
    administering::MUTANTS,
    living::MUTANTS,
    declaring::MUTANTS,
];

const RUNNING: Running = Running { flavour: Flavour::VirtualTime, seed: None, limit: Duration::from_secs(60) };

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![
        Trial::test("the table in docs/mutants.md is this one", the_table_is_committed),
        Trial::test("names are unique and killers exist", names_are_good),
    ];
    for mutant in ALL.into_iter().flatten() {
        trials.push(Trial::test(format!("{} is killed by {}", mutant.name, mutant.killer), || killed(mutant)));
    }
    for case in killers() {
        trials.push(Trial::test(format!("a faithful broker passes {}", case.name), || faithful(case)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn case(name: &str) -> Option<&'static Case> {
    all_cases().find(|case| case.name == name)
}

fn killers() -> Vec<&'static Case> {
    let names: BTreeSet<&str> = ALL.into_iter().flatten().map(|mutant| mutant.killer).collect();
    names.into_iter().filter_map(case).collect()
}

fn killed(mutant: &'static Mutant) -> Result<(), Failed> {
    let case = case(mutant.killer).ok_or("no such case")?;
    let harness: Arc<dyn Harness> = Arc::new(Mutated::new(mutant.make, mutant.twist));
    match run_case(&harness, case, RUNNING).ending {
        Ending::Failed(text) if text.starts_with("hangs") => Err(format!("it hung instead of failing: {text}").into()),
        Ending::Failed(text) if text.contains("panicked") => {
            Err(format!("it panicked instead of failing: {text}").into())
        }
        Ending::Failed(_) => Ok(()),
        other => Err(format!("the mutant survives: {other:?}").into()),
    }
}

/// The same wrapping without a mutation: what kills the mutants is the mutation, not the wrapping.
fn faithful(case: &'static Case) -> Result<(), Failed> {
    let harness: Arc<dyn Harness> = Arc::new(Mutated::new(|_| Arc::new(stage::Faithful), Twist::None));
    match run_case(&harness, case, RUNNING).ending {
        Ending::Proved => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn names_are_good() -> Result<(), Failed> {
    let mut names = BTreeSet::new();
    for mutant in ALL.into_iter().flatten() {
        if !names.insert(mutant.name) {
            return Err(format!("two mutants are called {}", mutant.name).into());
        }
        if case(mutant.killer).is_none() {
            return Err(format!("{} is to be killed by {}, which is no case", mutant.name, mutant.killer).into());
        }
    }
    Ok(())
}

fn the_table_is_committed() -> Result<(), Failed> {
    let mut table = String::from(
        "# Mutants\n\nEach is a memory broker that breaks one promise. The suite is trusted because each is killed by the case named beside \
         it;\n`cargo test -p messaging-conformance --test mutants` proves it, and compares this table.\n\n\
         | mutant | killed by | whose promise is |\n|---|---|---|\n",
    );
    for mutant in ALL.into_iter().flatten() {
        let promise = case(mutant.killer).map_or("", |case| case.promise);
        table += &format!("| {} | `{}` | {promise} |\n", mutant.name.replace('_', " "), mutant.killer);
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mutants.md");
    if std::env::var("MESSAGING_CONFORMANCE_BLESS").is_ok() {
        std::fs::write(file, &table).map_err(|error| error.to_string())?;
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    if committed == table {
        return Ok(());
    }
    Err("docs/mutants.md is not up to date: run this test with MESSAGING_CONFORMANCE_BLESS=1 and commit the file"
        .into())
}
