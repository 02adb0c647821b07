//! A case: its name, its promise, what it needs, and the function that tries it.

use std::future::Future;
use std::pin::Pin;

use messaging_core::Feature;

use crate::{Bench, Power, Verdict};

/// What kind of place a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A queue.
    Queue,
    /// A durable subscription of a topic.
    Durable,
    /// An ephemeral subscription of a topic.
    Ephemeral,
    /// None: the broker as a whole.
    Broker,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Queue, Self::Durable, Self::Ephemeral, Self::Broker];

    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Durable => "durable subscription",
            Self::Ephemeral => "ephemeral subscription",
            Self::Broker => "broker",
        }
    }

    /// The features without which there is no such place.
    #[must_use]
    pub const fn base(self) -> &'static [Feature] {
        match self {
            Self::Queue => &[Feature::Queue],
            Self::Durable => &[Feature::Topic, Feature::DurableSubscription],
            Self::Ephemeral => &[Feature::Topic, Feature::EphemeralSubscription],
            Self::Broker => &[],
        }
    }
}

/// The future of a case. It stays on the thread of its case and need not be `Send`.
pub type Trying<'a> = Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// One promise, and how it is tried.
#[derive(Clone, Copy)]
pub struct Case {
    /// The name, such as `Q1_competing_consumers`.
    pub name: &'static str,
    /// The promise in one sentence.
    pub promise: &'static str,
    /// The kinds of places it is tried on: each that the broker has.
    pub kinds: &'static [Kind],
    /// The features it needs there. Where one is not declared, the case proves that it is refused.
    pub features: &'static [Feature],
    /// The powers over the broker that it needs. Where the harness lacks one, the case is ignored.
    pub powers: &'static [Power],
    /// What tries it.
    pub function: for<'a> fn(&'a Bench) -> Trying<'a>,
}

impl Case {
    /// The part of the name before the first underscore, such as `Q1`.
    #[must_use]
    pub fn number(&self) -> &'static str {
        self.name.split('_').next().unwrap_or(self.name)
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Lists the cases of a file: promise, name, kinds, features, powers, function.
macro_rules! cases {
    ($($(#[doc = $promise:literal])+
       $name:ident on $($kind:ident)+ $(, needs $($feature:ident)+)? $(, with $($power:ident)+)? => $function:ident;)+) => {
        #[allow(non_upper_case_globals, reason = "the names are those of the contract's table")]
        pub(crate) const CASES: &[$crate::Case] = &[$($crate::Case {
            name: stringify!($name),
            promise: concat!($($promise),+).trim_ascii(),
            kinds: &[$($crate::Kind::$kind),+],
            features: &[$($(messaging_core::Feature::$feature),+)?],
            powers: &[$($($crate::Power::$power),+)?],
            function: |at| Box::pin($function(at)),
        }),+];
    };
}

pub(crate) use cases;
