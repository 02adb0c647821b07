//! Faults of what a person wrote, gathered so that all are reported at once.

use crate::error::{Error, ErrorKind, Result};

/// Faults found so far, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<(ErrorKind, String)>);

impl Faults {
    /// Adds a fault of kind [`ErrorKind::Config`].
    pub fn add(&mut self, text: impl Into<String>) {
        self.add_as(ErrorKind::Config, text);
    }

    /// Adds a fault of another kind, such as a file that does not exist.
    pub fn add_as(&mut self, kind: ErrorKind, text: impl Into<String>) {
        self.0.push((kind, text.into()));
    }

    /// Adds the faults of `other` behind these.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// True if nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends the gathering.
    ///
    /// # Errors
    /// One error with every fault, numbered if there are several. Its kind is theirs if all have the same, else
    /// [`ErrorKind::Config`].
    pub fn into_result(self) -> Result<()> {
        let Some((first, _)) = self.0.first() else { return Ok(()) };
        let kind = if self.0.iter().all(|(kind, _)| kind == first) { *first } else { ErrorKind::Config };
        let mut texts: Vec<String> = self.0.into_iter().map(|(_, text)| text).collect();
        if texts.len() > 1 {
            let listed = texts.iter().enumerate().map(|(index, text)| format!("\n  {}. {text}", index + 1));
            let listed: String = listed.collect();
            texts = vec![format!("{} faults:{listed}", texts.len())];
        }
        Err(Error::new(kind, texts.concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_is_the_text_and_several_are_numbered() {
        assert!(Faults::default().into_result().is_ok());
        let mut faults = Faults::default();
        faults.add_as(ErrorKind::NotFound, "no file");
        let error = faults.clone().into_result().unwrap_err();
        assert_eq!((error.kind(), error.text()), (ErrorKind::NotFound, "no file"));
        faults.add("no key");
        let error = faults.into_result().unwrap_err();
        assert_eq!((error.kind(), error.text()), (ErrorKind::Config, "2 faults:\n  1. no file\n  2. no key"));
    }
}
