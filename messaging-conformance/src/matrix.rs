//! The capability matrix: features down, brokers across, made of the reports of runs.
//!
//! *proved*: declared, and every case about the feature that ran held, of which at least one did. *emulated*: proved, by the
//! adapter's means. *refused*: not declared, with the reason. *not tested*: declared, and no case about it could run.

use std::fmt::Write as _;

use messaging_core::Feature;

use crate::pins::Level;
use crate::run::Ending;
use crate::{Case, Kind, Report, all_cases};

/// The page `docs/capabilities.md`, from reports in the order given.
#[must_use]
pub fn page(reports: &[Report]) -> String {
    let mut page = String::from(
        "# Capabilities\n\nMade of the conformance reports of the brokers below; not written by hand. *proved*: declared, and the cases \
         about it held on\nthe broker. *emulated*: proved, by the adapter's means. *refused*: asked for, it is an error that says why. \
         *not tested*: declared,\nand no case about it could run.\n\n",
    );
    page += &row("", reports.iter().map(heading));
    page += &row("---", reports.iter().map(|_| "---".to_owned()));
    let mut notes = Vec::new();
    for kind in Kind::ALL {
        for feature in Feature::ALL.into_iter().filter(|feature| belongs(kind, *feature)) {
            let cells: Vec<String> = reports.iter().map(|report| cell(report, kind, feature, &mut notes)).collect();
            page += &row(&format!("{}: {feature}", kind.name()), cells);
        }
    }
    page += "\n## Limits and answers\n\n";
    for report in reports {
        for answers in &report.answers {
            // Writing to a string does not fail.
            let _ = writeln!(page, "**{}, {}**: {}\n", heading(report), answers.kind, described(&answers.others));
        }
    }
    page += "## How and why\n\n";
    for (number, note) in notes.iter().enumerate() {
        let _ = writeln!(page, "{}. {note}", number + 1);
    }
    if notes.is_empty() {
        page += "Nothing is emulated and nothing refused.\n";
    }
    page += "\n## Not run\n\n";
    for report in reports {
        for record in &report.cases {
            if let Ending::Ignored(reason) = &record.ending {
                let line = format!("* {}: `{}`: {reason}\n", heading(report), record.case);
                if !page.contains(&line) {
                    page += &line;
                }
            }
        }
    }
    page
}

fn row(first: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {first} | {} |\n", cells.join(" | "))
}

fn heading(report: &Report) -> String {
    let option = if report.option.is_empty() { String::new() } else { format!(" {}", report.option) };
    let server = if report.server == "real" { String::new() } else { format!(" ({})", report.server) };
    format!("{}{option} {}{server}", report.driver, report.version)
}

/// Whether a feature means something for a kind of place.
fn belongs(kind: Kind, feature: Feature) -> bool {
    let of_topics = [
        Feature::Topic,
        Feature::DurableSubscription,
        Feature::SharedSubscription,
        Feature::Replay,
        Feature::SubjectFilter,
        Feature::RequireSubscriber,
    ];
    let of_brokers = [Feature::RequestReply, Feature::Transactions];
    match kind {
        Kind::Queue => {
            feature != Feature::EphemeralSubscription && !of_topics.contains(&feature) && !of_brokers.contains(&feature)
        }
        Kind::Durable => {
            ![Feature::Queue, Feature::EphemeralSubscription].contains(&feature) && !of_brokers.contains(&feature)
        }
        Kind::Ephemeral => [Feature::EphemeralSubscription, Feature::SubjectFilter].contains(&feature),
        Kind::Broker => of_brokers.contains(&feature),
    }
}

fn cell(report: &Report, kind: Kind, feature: Feature, notes: &mut Vec<String>) -> String {
    let answers = report.answers.iter().find(|answers| answers.kind == kind.name());
    let said = answers.and_then(|answers| answers.features.iter().find(|(name, ..)| name == feature.name()));
    let Some((_, level, words)) = said else { return "not asked".to_owned() };
    let mut noted = |word: &str| {
        let note = format!("{}, {}, {feature}: {words}", heading(report), kind.name());
        let number = notes.iter().position(|known| *known == note).unwrap_or_else(|| {
            notes.push(note);
            notes.len() - 1
        });
        format!("{word} [{}]", number + 1)
    };
    if *level == Level::Refused {
        return noted("refused");
    }
    match (tested(report, kind, feature), level) {
        (Tested::Failed, _) => "**failed**".to_owned(),
        (Tested::Never, _) => "not tested".to_owned(),
        (Tested::Proved, Level::Emulated) => noted("emulated"),
        (Tested::Proved, _) => "proved".to_owned(),
    }
}

enum Tested {
    Proved,
    Failed,
    Never,
}

fn tested(report: &Report, kind: Kind, feature: Feature) -> Tested {
    let about = |case: &Case| {
        let smoke = case.name.starts_with("K2_") && kind != Kind::Ephemeral;
        let needs = case.features.contains(&feature) || kind.base().contains(&feature);
        (needs && (case.kinds.contains(&kind) || kind == Kind::Broker) || also_about(case.number(), feature))
            || (smoke && SMOKE.contains(&feature))
    };
    let names: Vec<&str> = all_cases().filter(|case| about(case)).map(|case| case.name).collect();
    let records = report.cases.iter().filter(|record| names.contains(&record.case.as_str()));
    let mut tested = Tested::Never;
    for record in records {
        match record.ending {
            Ending::Failed(_) => return Tested::Failed,
            Ending::Proved => tested = Tested::Proved,
            Ending::Refused(_) | Ending::Ignored(_) => {}
        }
    }
    tested
}

/// Features that have no case of their own, and do something real in the case of all that is declared.
const SMOKE: [Feature; 2] = [Feature::RequireSubscriber, Feature::Purge];

/// Cases that prove a feature without being refused where it is missing.
fn also_about(number: &str, feature: Feature) -> bool {
    matches!(
        (number, feature),
        ("A9", Feature::Release)
            | ("B1" | "B2" | "B3", Feature::Batch)
            | ("P2", Feature::RequireSubscriber)
            | ("S1" | "S8", Feature::Topic)
    )
}

fn described(others: &[(String, String)]) -> String {
    let parts: Vec<String> = others.iter().map(|(name, value)| format!("{name} `{value}`")).collect();
    parts.join(", ")
}
