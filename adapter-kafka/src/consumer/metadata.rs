//! Metadata of a commit: how often the messages behind its offset were tried, and whether its member ended well.
//!
//! Kafka keeps up to 4,096 bytes of text with a committed offset. A member writes there how often the lowest open offsets were
//! tried, so that attempts survive it. One that dies at once may not come to write anything: that its last commit does not say
//! "clean" is enough for the next member to note the first messages before they go. So a message that
//! kills its process every time is counted from the second death on, and reaches its limit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How a member left a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It gave the partition up in order.
    Clean,
    /// It still has it, or died.
    Unknown,
}

/// Metadata of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) ending: Ending,
    /// How often offsets were tried, by their distance from the committed one.
    pub(crate) tried: BTreeMap<u32, u32>,
}

const CLEAN_MARK: &str = "m1c";
const UNKNOWN_MARK: &str = "m1o";

impl Metadata {
    /// Bound of the offsets that are noted: each takes some ten bytes.
    pub(crate) const TRIED_MAX: usize = 300;
    /// Kafka's default for `offset.metadata.max.bytes`, less some.
    const BYTES_MAX: usize = 4_000;

    pub(crate) fn new(ending: Ending) -> Self {
        Self { ending, tried: BTreeMap::new() }
    }

    pub(crate) fn write(&self) -> String {
        let mut text = String::from(match self.ending {
            Ending::Clean => CLEAN_MARK,
            Ending::Unknown => UNKNOWN_MARK,
        });
        for (delta, attempts) in &self.tried {
            if text.len() > Self::BYTES_MAX - 24 {
                break;
            }
            // Writing to a string does not fail.
            let _ = write!(text, ";{delta}:{attempts}");
        }
        text
    }

    /// Reads what [`write`](Self::write) wrote. What others wrote, which need not be text, says nothing of a death.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let text = str::from_utf8(bytes).unwrap_or_default();
        let mut parts = text.split(';');
        let ending = match parts.next() {
            Some(UNKNOWN_MARK) => Ending::Unknown,
            Some(CLEAN_MARK) => Ending::Clean,
            _ => return Self::new(Ending::Clean),
        };
        let pair = |part: &str| {
            let (delta, attempts) = part.split_once(':')?;
            Some((delta.parse().ok()?, attempts.parse().ok()?))
        };
        Self { ending, tried: parts.filter_map(pair).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_fits() {
        let tried: BTreeMap<u32, u32> = (0..2_000).map(|at| (at * 1_000, at)).collect();
        let written = Metadata { ending: Ending::Unknown, tried: tried.clone() }.write();
        assert!(written.len() <= 4_096, "{}", written.len());
        let read = Metadata::read(written.as_bytes());
        assert_eq!(read.ending, Ending::Unknown);
        assert!(read.tried.len() > 300 && read.tried.iter().all(|(at, attempts)| tried[at] == *attempts));
    }

    #[test]
    fn what_others_wrote_means_nothing() {
        for foreign in [&b""[..], b"x", b"m1", b"{\"a\":1}", b"\xff", b"m1o;\xff"] {
            assert_eq!(Metadata::read(foreign), Metadata::new(Ending::Clean), "{foreign:?}");
        }
        assert_eq!(Metadata::read(b"m1o;x;1:;:2;3:4").tried.len(), 1);
    }
}
