//! The adapter's answers as text: pinned in a file beside its harness, so that a change of behaviour is a diff.

use std::fmt::Write as _;
use std::sync::Arc;

use messaging_core::{Capabilities, Feature, Support};
use serde::{Deserialize, Serialize};

use crate::tally::Tally;
use crate::verdict::Verdict;
use crate::{Bench, Harness, Kind, all_cases};

/// What the broker says it can do for one kind of place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The kind of place.
    pub kind: String,
    /// Feature, and how it is supported.
    pub features: Vec<(String, Level, String)>,
    /// The other answers: name and value.
    pub others: Vec<(String, String)>,
}

/// How a feature is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Not at all.
    Refused,
    /// By the adapter's means.
    Emulated,
    /// By the broker's own.
    Native,
}

/// The level of a support, and its text.
pub(crate) fn level(support: &Support) -> (Level, String) {
    match support {
        Support::Native => (Level::Native, String::new()),
        Support::Emulated(how) => (Level::Emulated, how.to_string()),
        Support::Unsupported(why) => (Level::Refused, why.to_string()),
    }
}

/// All answers, for every kind of place.
pub(crate) fn answers(at: &Bench) -> Vec<Answers> {
    Kind::ALL.into_iter().map(|kind| of(kind, &at.capabilities(kind, false), &at.capabilities(kind, true))).collect()
}

fn of(kind: Kind, plain: &Capabilities, ordered: &Capabilities) -> Answers {
    let features = Feature::ALL.into_iter().map(|feature| {
        // Key order is asked for together with its options; some brokers lay out such places otherwise.
        let from = if matches!(feature, Feature::KeyOrder | Feature::Hold) { ordered } else { plain };
        let (level, text) = level(from.support(feature));
        (feature.name().to_owned(), level, text)
    });
    let Capabilities {
        attempts,
        settlement,
        stale,
        readiness,
        expired,
        filtering,
        browsing,
        retry_place,
        dedup,
        limits,
        ..
    } = plain;
    let others = [
        ("attempts", format!("{attempts:?}")),
        ("settlement", format!("{settlement:?}")),
        ("stale", format!("{stale:?}")),
        ("readiness", format!("{readiness:?}")),
        ("expired", format!("{expired:?}")),
        ("filtering", format!("{filtering:?}")),
        ("browsing", format!("{browsing:?}")),
        ("retry_place", format!("{retry_place:?}")),
        ("dedup", format!("{dedup:?}")),
        ("limits", format!("{limits:?}")),
    ];
    Answers {
        kind: kind.name().to_owned(),
        features: features.collect(),
        others: others.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

/// The answers as the text that is committed.
#[must_use]
pub fn render(answers: &[Answers]) -> String {
    let mut text = String::new();
    for Answers { kind, features, others } in answers {
        // Writing to a string does not fail.
        let _ = writeln!(text, "[{kind}]");
        for (name, level, words) in features {
            let word = match level {
                Level::Native => "native",
                Level::Emulated => "emulated",
                Level::Refused => "refused",
            };
            let colon = if words.is_empty() { "" } else { ": " };
            let _ = writeln!(text, "{name:<24}{word}{colon}{words}");
        }
        for (name, value) in others {
            let _ = writeln!(text, "{name:<24}{value}");
        }
        text.push('\n');
    }
    text
}

/// The answers, from outside of any case.
pub(crate) fn blocking_answers(harness: &Arc<dyn Harness>) -> Result<Vec<Answers>, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let case = all_cases().next().ok_or("there are no cases")?;
    let asking = async {
        let stage = Bench::prepare(harness, case).await?;
        let at = Bench::begin(Arc::clone(harness), stage, case, None, Tally::default()).await?;
        let answers = answers(&at);
        let _ = at.end().await?;
        Verdict::Ok(answers)
    };
    runtime.block_on(asking).map_err(|stop| stop.to_string())
}
