use super::*;

const fn step(name: &'static str, needs: &'static [&'static str]) -> Step {
    Step { name, about: "", needs, programs: &[], run: |_| Ok(()) }
}

static SMALL: &[Step] = &[
    step("build", &[]),
    step("packages", &[]),
    step("e2e", &["build", "packages"]),
    step("soak", &["e2e"]),
    step("format", &[]),
];

/// Runs the steps `only` and checks what became of them, while those in `broken` fail.
fn check(only: &[&str], broken: &[&str], expected: &[(&str, Outcome)]) {
    let only: Vec<String> = only.iter().map(ToString::to_string).collect();
    let plan = plan(SMALL, &only).unwrap();
    let run = |step: &Step| {
        let outcome = if broken.contains(&step.name) { Outcome::Failed } else { Outcome::Passed };
        Finished { name: step.name, outcome, duration: Duration::ZERO, tail: String::new() }
    };
    let lacks = |step: &Step| (step.name == "format" && broken.contains(&"rustfmt")).then_some("rustfmt");
    let finished = execute(&plan, lacks, run);
    let actual: Vec<_> = finished.into_iter().map(|step| (step.name, step.outcome)).collect();
    assert_eq!(actual, expected);
}

fn not_run(reason: &str) -> Outcome {
    Outcome::NotRun(reason.to_owned())
}

#[test]
fn a_failure_stops_the_steps_that_need_it_and_no_others() {
    use Outcome::{Failed, Passed};
    check(
        &[],
        &["packages"],
        &[
            ("build", Passed),
            ("packages", Failed),
            ("e2e", not_run("packages did not pass")),
            ("soak", not_run("e2e did not pass")),
            ("format", Passed),
        ],
    );
}

#[test]
fn a_missing_program_stops_its_steps() {
    check(&["format"], &["rustfmt"], &[("format", not_run("rustfmt is missing"))]);
}

#[test]
fn a_chosen_step_brings_what_it_needs() {
    use Outcome::Passed;
    check(&["format"], &[], &[("format", Passed)]);
    check(&["soak"], &[], &[("build", Passed), ("packages", Passed), ("e2e", Passed), ("soak", Passed)]);
}

#[test]
fn an_unknown_step_is_an_error() {
    let error = plan(SMALL, &["e3e".to_owned()]).err().unwrap();
    assert!(error.to_string().contains("`e3e`"), "{error}");
}

#[test]
fn a_run_succeeds_only_if_every_step_passed() {
    let finished =
        |outcome| Finished { name: "build", outcome, duration: Duration::ZERO, tail: String::new() };
    assert!(summarize(&[finished(Outcome::Passed)]).is_ok());
    assert!(summarize(&[finished(Outcome::Passed), finished(Outcome::Failed)]).is_err());
    assert!(summarize(&[finished(Outcome::Passed), finished(not_run("no reason"))]).is_err());
}

#[test]
fn steps_have_their_own_names_and_need_earlier_ones() {
    for (index, step) in STEPS.iter().enumerate() {
        let earlier: Vec<_> = STEPS[..index].iter().map(|step| step.name).collect();
        assert!(!earlier.contains(&step.name), "two steps are called {}", step.name);
        for need in step.needs {
            assert!(earlier.contains(need), "{} needs {need}, which does not come before it", step.name);
        }
    }
}
