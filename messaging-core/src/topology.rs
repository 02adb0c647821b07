//! Topology: planning what should be on a broker, and making it.

use std::fmt;

use async_trait::async_trait;

use crate::consume::Start;
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Destination, SubscriptionName, TopicName};
use crate::subject::SubjectFilter;

/// Handling of destinations that are missing or differ, when one is opened and when a plan is applied. The three modes are all
/// there are: the enum is exhaustive on purpose, so that an adapter decides about each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TopologyMode {
    /// Make what is missing; an existing one that differs is an error.
    #[default]
    Create,
    /// Make nothing; a missing or differing one is an error.
    Verify,
    /// Ask the broker nothing and make nothing; a missing one is found out by the first use.
    Assume,
}

/// Something that should be on the broker. Exhaustive on purpose: an adapter has to plan each kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Declaration {
    /// A queue or topic, with the settings the broker was opened with.
    Destination(Destination),
    /// A durable subscription.
    Subscription {
        /// Its topic.
        topic: TopicName,
        /// Its name.
        name: SubscriptionName,
        /// Where it begins if it is made now.
        start: Start,
        /// Which subjects it sees.
        filter: Option<SubjectFilter>,
    },
}

/// The difference between a declaration and the broker, and so the effect of applying it. Exhaustive on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanAction {
    /// It is there as declared.
    Keep,
    /// It will be made.
    Create,
    /// It is there and differs: each difference as `capacity is 4, asked for is 7`. Applying refuses and changes nothing.
    Differs(Vec<String>),
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanStep {
    /// The declaration in words.
    pub what: String,
    /// Its name at the broker.
    pub physical_name: String,
    /// The effect of applying it.
    pub action: PlanAction,
}

/// The steps that applying declarations would take. It is displayed as a list, one step a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in the order in which they are applied.
    pub steps: Vec<PlanStep>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for PlanStep { what, physical_name, action } in &self.steps {
            match action {
                PlanAction::Keep => writeln!(f, "  keep    {what} as {physical_name}")?,
                PlanAction::Create => writeln!(f, "+ create  {what} as {physical_name}")?,
                PlanAction::Differs(differences) => {
                    writeln!(f, "! differs {what} as {physical_name}: {}", differences.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

impl Plan {
    /// Passes if the plan may be applied in a topology mode: none of its steps differs, and under
    /// [`TopologyMode::Verify`] nothing is missing. Every fault is named, not only the first. Under
    /// [`TopologyMode::Assume`] any plan passes: nothing is compared.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if a step differs; [`ErrorKind::NotFound`] if things are only missing.
    pub fn check(&self, mode: TopologyMode) -> Result<()> {
        if mode == TopologyMode::Assume {
            return Ok(());
        }
        let mut kind = ErrorKind::NotFound;
        let mut faults = Vec::new();
        for PlanStep { what, physical_name, action } in &self.steps {
            match action {
                PlanAction::Differs(differences) => {
                    kind = ErrorKind::Mismatch;
                    faults.push(format!("{what} exists as {physical_name:?} and differs: {}", differences.join(", ")));
                }
                PlanAction::Create if mode == TopologyMode::Verify => {
                    faults.push(format!("{what} does not exist as {physical_name:?}"));
                }
                PlanAction::Create | PlanAction::Keep => {}
            }
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::new(kind, format!("{}; nothing was changed", faults.join("; "))))
    }
}

/// Plans declarations, and makes those that are missing. Every call is cold.
///
/// Applications call [`plan`](Self::plan), and `apply` of [`dyn Broker`](trait@crate::Broker), which is written once over these
/// two.
#[async_trait]
pub trait Topology: Send + Sync {
    /// Compares declarations with the broker: one step or more for each, in order. Changes nothing, in every topology mode.
    ///
    /// # Errors
    /// The reason for which the broker could not answer.
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan>;

    /// Makes what is missing of the declarations and leaves alone what is there. Called only under
    /// [`TopologyMode::Create`], after a plan without differences.
    ///
    /// # Errors
    /// The reason for which something could not be made; what was made before stays.
    async fn create(&self, declarations: &[Declaration]) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(actions: Vec<PlanAction>) -> Plan {
        let step = |(number, action)| PlanStep {
            what: format!("queue \"{number}\""),
            physical_name: format!("test.{number}"),
            action,
        };
        Plan { steps: actions.into_iter().enumerate().map(step).collect() }
    }

    #[test]
    fn missing_is_an_error_under_verify_alone() {
        let missing = plan(vec![PlanAction::Keep, PlanAction::Create]);
        assert!(missing.check(TopologyMode::Create).is_ok());
        assert!(missing.check(TopologyMode::Assume).is_ok());
        let error = missing.check(TopologyMode::Verify).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.text(), "queue \"1\" does not exist as \"test.1\"; nothing was changed");
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let differs = || PlanAction::Differs(vec!["a is 1, asked for is 2".to_owned(), "b is 3".to_owned()]);
        let both = plan(vec![PlanAction::Create, differs()]);
        let error = both.check(TopologyMode::Create).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        let differing =
            "queue \"1\" exists as \"test.1\" and differs: a is 1, asked for is 2, b is 3; nothing was changed";
        assert_eq!(error.text(), differing);
        let error = both.check(TopologyMode::Verify).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert_eq!(error.text(), format!("queue \"0\" does not exist as \"test.0\"; {differing}"));
        assert!(both.check(TopologyMode::Assume).is_ok());
    }
}
