//! The course as a list of steps.

/// A step of the course.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A command and what comes back.
    Command {
        line: usize,
        command: String,
        output: Vec<String>,
    },
    /// A new file.
    File { name: String, text: String },
    /// A change of a file.
    Edit {
        line: usize,
        name: String,
        from: String,
        to: String,
    },
    /// Lines in the first terminal.
    Log { line: usize, text: Vec<String> },
    /// What a reader types before the lab runs.
    Preparation(String),
}

/// The steps of a document, in order.
pub fn steps(document: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = (1..).zip(document.lines());
    while let Some((line, fence)) = lines.next() {
        let Some(info) = fence.strip_prefix("```") else {
            continue;
        };
        let (kind, name) = info.split_once(' ').unwrap_or((info, ""));
        let mut text = Vec::new();
        for (line, content) in lines.by_ref() {
            if content == "```" {
                break;
            }
            text.push((line, content));
        }
        let name = name.to_owned();
        match kind {
            "console" => commands(&text, &mut steps),
            "yaml" => steps.push(Step::File {
                name,
                text: text.iter().flat_map(|(_, it)| [*it, "\n"]).collect(),
            }),
            "diff" => {
                let side = |marks: [char; 2]| {
                    let lines = text.iter().filter(|(_, it)| it.starts_with(marks));
                    lines.flat_map(|(_, it)| [&it[1..], "\n"]).collect()
                };
                steps.push(Step::Edit {
                    line,
                    name,
                    from: side([' ', '-']),
                    to: side([' ', '+']),
                });
            }
            "log" => steps.push(Step::Log {
                line,
                text: text.iter().map(|(_, it)| (*it).to_owned()).collect(),
            }),
            "sh" => steps.extend(
                text.iter()
                    .map(|(_, it)| Step::Preparation((*it).to_owned())),
            ),
            other => panic!("line {line}: a block of kind '{other}'"),
        }
    }
    steps
}

fn commands(text: &[(usize, &str)], steps: &mut Vec<Step>) {
    for (line, content) in text {
        if let Some(command) = content.strip_prefix("$ ") {
            steps.push(Step::Command {
                line: *line,
                command: command.to_owned(),
                output: Vec::new(),
            });
        } else if let Some(Step::Command { output, .. }) = steps.last_mut() {
            output.push((*content).to_owned());
        } else {
            panic!("line {line}: '{content}' stands before the first '$'");
        }
    }
}

/// A changed text. What is replaced must occur once; without it, `to` is added at the end.
pub fn edit(text: &str, from: &str, to: &str) -> Result<String, String> {
    if from.is_empty() {
        return Ok(format!("{text}{to}"));
    }
    // Whole lines.
    let text = format!("\n{text}");
    let (from, to) = (format!("\n{from}"), format!("\n{to}"));
    // Two occurrences can share a line end.
    let count = text
        .match_indices('\n')
        .filter(|(at, _)| text[*at..].starts_with(&from))
        .count();
    match count {
        1 => Ok(text.replacen(&from, &to, 1)[1..].to_owned()),
        count => Err(format!("it occurs {count} times:{from}")),
    }
}

/// Whether the output of a command is what the document shows. Lines of `...` stand for any lines. Ids, the
/// width of spaces, seconds waited and empty lines do not count, query times only as below or above a second,
/// and the order of lines only where some are left out.
pub fn is_shown(output: &str, document: &[String]) -> bool {
    let mut output = normalised(output.lines());
    let mut expected = normalised(document.iter().map(String::as_str));
    if !expected.iter().any(|line| line == "...") {
        output.sort_unstable();
        expected.sort_unstable();
        return output == expected;
    }
    let mut rest = output.as_slice();
    let groups: Vec<&[String]> = expected.split(|line| line == "...").collect();
    let (last, groups) = groups.split_last().unwrap();
    for (index, group) in groups.iter().enumerate() {
        let mut starts = (0..=rest.len()).take(if index == 0 { 1 } else { usize::MAX });
        match starts.find(|start| rest[*start..].starts_with(group)) {
            Some(start) => rest = &rest[start + group.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether a log has a line. `...` in the line stands for anything.
pub fn is_logged(log: &str, line: &str) -> bool {
    let parts: Vec<&str> = line.split("...").collect();
    log.lines().any(|logged| {
        let mut rest = logged;
        let found = parts.iter().all(|part| match rest.find(part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        });
        found && logged.starts_with(parts[0]) && logged.ends_with(parts[parts.len() - 1])
    })
}

fn normalised<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let is_warning = |line: &&str| {
        line.starts_with(";; WARNING: .local")
            || line.starts_with(";; You are currently testing what happens when an mDNS")
    };
    let lines = lines.filter(|line| !line.trim().is_empty() && !is_warning(line));
    lines.map(line).collect()
}

fn line(line: &str) -> String {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    // The time that an upstream was waited for.
    for at in 1..words.len() {
        if words[at] == "s:" && words[at - 1].parse::<f64>().is_ok() {
            words[at - 1] = "N";
        }
    }
    let line = words.join(" ");
    if let Some((before, _)) = line.split_once(", id: ") {
        return before.to_owned();
    }
    let time = line.strip_prefix(";; Query time: ");
    if let Some(time) = time.and_then(|it| it.strip_suffix(" msec")) {
        let second = if time.len() > 3 { "more" } else { "less" };
        return format!(";; Query time: {second} than a second");
    }
    line
}

#[test]
fn blocks_become_steps() {
    let document = "# A\n\n```sh\nmake\n```\n```console\n$ one | two\n1\n2\n$ three\n```\ntext\n\
        ```yaml a.yaml\nkind: A\n```\n```diff Corefile\n a\n-b\n+c\n```\n";
    let command = |line, command: &str, output: &[&str]| Step::Command {
        line,
        command: command.to_owned(),
        output: output.iter().map(|it| (*it).to_owned()).collect(),
    };
    let expected = [
        Step::Preparation("make".to_owned()),
        command(7, "one | two", &["1", "2"]),
        command(10, "three", &[]),
        Step::File {
            name: "a.yaml".to_owned(),
            text: "kind: A\n".to_owned(),
        },
        Step::Edit {
            line: 16,
            name: "Corefile".to_owned(),
            from: "a\nb\n".to_owned(),
            to: "a\nc\n".to_owned(),
        },
    ];
    assert_eq!(steps(document), expected);
}

#[test]
fn logs_are_searched_by_line() {
    let log = "[INFO] a\n[ERROR] b: 3.8 s: c\n";
    assert!(is_logged(log, "[ERROR] b: ... s: c"));
    assert!(is_logged(log, "[INFO] a"));
    for line in [
        "[INFO]",
        "a",
        "[ERROR] b: ... d",
        "[INFO] ... c",
        "b: ... c",
    ] {
        assert!(!is_logged(log, line), "{line}");
    }
}

#[test]
fn edits_replace_whole_lines_that_occur_once() {
    assert_eq!(edit("a\nb\nc\n", "b\n", "d\n").unwrap(), "a\nd\nc\n");
    assert_eq!(edit("a\n", "", "b\n").unwrap(), "a\nb\n");
    assert!(edit("ab\n", "b\n", "c\n").is_err());
    assert!(edit("b\nb\n", "b\n", "c\n").is_err());
}

#[test]
fn outputs_are_compared_line_by_line() {
    let shown = |output: &str, document: &[&str]| {
        let document: Vec<String> = document.iter().map(|it| (*it).to_owned()).collect();
        is_shown(output, &document)
    };
    assert!(shown("b\na\n", &["a", "b"]));
    assert!(!shown("a\n", &["a", "b"]));
    assert!(!shown("a\nb\n", &["a"]));
    assert!(!shown("a\n", &[]));
    assert!(shown("x; status: A, id: 1\n", &["x; status: A, id: 2"]));
    assert!(!shown("x; status: A, id: 1\n", &["x; status: B, id: 1"]));
    assert!(shown("a.\t5  A\n\n", &["a. 5 A"]));
    assert!(shown(";; Query time: 12 msec", &[";; Query time: 0 msec"]));
    assert!(!shown(
        ";; Query time: 1500 msec",
        &[";; Query time: 0 msec"]
    ));
    assert!(shown("2 tries in 3.9 s: a", &["2 tries in 3.8 s: a"]));
    assert!(shown("1\n2\n3\n4\n", &["...", "2", "3", "..."]));
    assert!(shown("1\n2\n3\n", &["...", "3"]));
    assert!(shown("1\n2\n3\n", &["1", "..."]));
    assert!(!shown("1\n2\n3\n", &["...", "2"]));
    assert!(!shown("1\n2\n3\n", &["2", "..."]));
    assert!(!shown("1\n2\n3\n", &["...", "1", "3", "..."]));
    assert!(!shown("1\n2\n3\n", &["...", "3", "...", "2", "..."]));
}
