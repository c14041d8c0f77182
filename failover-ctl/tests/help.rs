//! The text of `--help` is recorded, so that a change to it appears in review.

#[test]
fn command_with_help_then_text_as_recorded() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd");
}
