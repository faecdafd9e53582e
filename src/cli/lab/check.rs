//! `lodestone lab check [N] [DIR]`: whether the goals of the exercises in `docs/lab.md` are reached.

mod exercises;

use anyhow::bail;
use exercises::{EXERCISES, Exercise};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::running::RunningLab;
use crate::{cli::output, error_text};

/// Say which exercises of the course (docs/lab.md) are done, or what one of them still needs.
///
/// Exit code: 0 if done, 1 if not, 2 if that cannot be determined.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Number of the exercise, 1 to 12 [default: list all]
    #[arg(value_name = "N")]
    exercise: Option<String>,
    /// Directory of the lab, if several are running
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Exit code if there is no such exercise, or no lab.
const UNKNOWN: u8 = 2;

/// Checks and reports.
pub fn run(arguments: &Arguments) -> ExitCode {
    let (text, done) = match report(arguments) {
        Ok(report) => report,
        Err(error) => {
            output::print_error(format!("error: {}", error_text::chain(&error)));
            return ExitCode::from(UNKNOWN);
        }
    };
    if let Err(error) = output::print(&text) {
        output::print_error(error);
        return ExitCode::from(UNKNOWN);
    }
    if done {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The text, and whether all that was asked about is done.
fn report(arguments: &Arguments) -> anyhow::Result<(String, bool)> {
    let directory = arguments.directory.as_deref();
    match arguments.exercise.as_deref() {
        None => list(&RunningLab::find(None)?),
        Some(word) => match parse(word) {
            Ok(number) => one(number, &RunningLab::find(directory)?),
            // `check DIR` lists the exercises of that lab.
            Err(_) if directory.is_none() && Path::new(word).is_dir() => {
                list(&RunningLab::find(Some(Path::new(word)))?)
            }
            Err(error) => Err(error),
        },
    }
}

/// The number of an exercise.
fn parse(word: &str) -> anyhow::Result<usize> {
    match word.parse() {
        Ok(number) if (1..=EXERCISES.len()).contains(&number) => Ok(number),
        _ => bail!(
            "there is no exercise '{word}': write a number from 1 to {}, or none to list them",
            EXERCISES.len()
        ),
    }
}

/// One exercise with its goal.
fn one(number: usize, lab: &RunningLab) -> anyhow::Result<(String, bool)> {
    let exercise = &EXERCISES[number - 1];
    let missing = exercise.missing(lab)?;
    let mut text = line(number, exercise, missing.is_empty());
    if !missing.is_empty() {
        let _ = writeln!(text, "       goal: {}", exercise.goal);
        for missing in &missing {
            let _ = writeln!(text, "    missing: {missing}");
        }
        text += &other_manifests(lab);
    }
    Ok((text, missing.is_empty()))
}

/// All exercises.
fn list(lab: &RunningLab) -> anyhow::Result<(String, bool)> {
    let mut text = String::new();
    let mut next = None;
    let mut done = 0;
    for (number, exercise) in (1..).zip(&EXERCISES) {
        let reached = exercise.missing(lab)?.is_empty();
        text += &line(number, exercise, reached);
        if reached {
            done += 1;
        } else {
            next.get_or_insert(number);
        }
    }
    let _ = match next {
        Some(next) => writeln!(
            text,
            "{done} of {} done; next: exercise {next} of docs/lab.md (lodestone lab check {next})",
            EXERCISES.len()
        ),
        None => writeln!(text, "All done."),
    };
    if next.is_some() {
        text += &other_manifests(lab);
    }
    Ok((text, next.is_none()))
}

fn line(number: usize, exercise: &Exercise, done: bool) -> String {
    let state = if done { "done" } else { "open" };
    format!("{state} {number:>2}  {}\n", exercise.title)
}

/// Why an exercise can be out of reach.
fn other_manifests(lab: &RunningLab) -> String {
    if lab.sample {
        return String::new();
    }
    format!(
        "This lab serves {}; the exercises are about the sample cluster: lodestone lab\n",
        lab.manifests.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_numbers_are_refused() {
        for word in ["0", "13", "-1", "1.5", "one", ""] {
            let error = parse(word).unwrap_err().to_string();
            let expected = format!(
                "there is no exercise '{word}': write a number from 1 to 12, or none to list them"
            );
            assert_eq!(error, expected);
        }
        assert_eq!(parse("12").unwrap(), 12);
    }

    #[test]
    fn exercises_are_those_of_the_course() {
        let course = include_str!("../../../docs/lab.md");
        let headings = course.lines().filter_map(|line| line.strip_prefix("## "));
        let numbered = headings.filter(|it| it.starts_with(|first: char| first.is_ascii_digit()));
        let expected = (1..).zip(&EXERCISES);
        let expected: Vec<String> = expected
            .map(|(n, it)| format!("{n}. {}", it.title))
            .collect();
        assert_eq!(numbered.collect::<Vec<_>>(), expected);
        // The course states the goals in the same words.
        let plain = course.replace('`', "");
        let words: Vec<&str> = plain.split_whitespace().collect();
        let plain = words.join(" ");
        for exercise in &EXERCISES {
            assert!(
                plain.contains(&format!("Goal: {}", exercise.goal)),
                "{}",
                exercise.goal
            );
        }
    }
}
