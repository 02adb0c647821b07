//! The examples live beside this file, one folder or file each; there is nothing in the library itself.

/// The program of the repository's README, compiled as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
