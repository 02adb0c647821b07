//! To come.
pub(crate) const CASES: &[crate::Case] = &[];
