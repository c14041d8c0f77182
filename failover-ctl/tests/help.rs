//! Help, as a person sees it, is recorded: a change to it is seen in review.

#[test]
fn help_is_as_recorded() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd");
}
