//! Every error of the macros, one case each: where it points and what it says.
//!
//! After a change on purpose, `TRYBUILD=overwrite cargo test -p messaging-macros` writes what is told now.

#[test]
fn what_is_wrong_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
