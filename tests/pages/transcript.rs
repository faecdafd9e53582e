//! Commands and their output in a `console` block.

/// A command and its output.
pub struct Step {
    /// The command after `$`.
    pub line: String,
    /// The output lines.
    pub output: String,
}

/// Prefix of every command.
const DIG: &str = "dig -p 105";

/// The commands of a block.
pub fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("$ ") {
            if !line.starts_with(DIG) || !line.contains(" @127.0.0.1 ") {
                return Err(format!(
                    "'{line}' cannot be run: a line is '$ dig -p 1053 @127.0.0.1 ...'"
                ));
            }
            steps.push(Step {
                line: line.to_owned(),
                output: String::new(),
            });
        } else if let Some(step) = steps.last_mut() {
            step.output.push_str(line);
            step.output.push('\n');
        } else {
            return Err(format!("'{line}' stands in front of the first '$'"));
        }
    }
    if steps.is_empty() {
        return Err("no line begins with '$ '".to_owned());
    }
    Ok(steps)
}

/// Normalised output: without empty lines, dig's comments about `.local`, ids, times and the width of
/// spaces. Sorted if the server shuffles.
pub fn shown(output: &str, shuffled: bool) -> Vec<String> {
    let counts = |line: &&str| {
        !line.is_empty()
            && !line.starts_with(";; WHEN:")
            && !line.starts_with(";; Query time:")
            && !line.starts_with(";; WARNING: .local")
            && !line.starts_with(";; You are currently testing what happens when an mDNS")
    };
    let lines = output.lines().map(str::trim_end).filter(counts);
    let apart = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = lines.map(|line| without_id(&apart(line))).collect();
    if shuffled {
        lines.sort_unstable();
    }
    lines
}

/// A header line with a fixed id.
fn without_id(line: &str) -> String {
    match line.split_once(", id: ") {
        Some((before, _)) if line.starts_with(";; ->>HEADER<<-") => format!("{before}, id: 0"),
        _ => line.to_owned(),
    }
}

#[test]
fn commands_are_parsed_with_their_output() {
    let text = "$ dig -p 1053 @127.0.0.1 +short a\n1.2.3.4\n\n$ dig -p 1053 @127.0.0.1 b\n";
    let steps = steps(text).unwrap();
    let read: Vec<_> = steps.iter().map(|it| (&*it.line, &*it.output)).collect();
    assert_eq!(
        read,
        [
            ("dig -p 1053 @127.0.0.1 +short a", "1.2.3.4\n\n"),
            ("dig -p 1053 @127.0.0.1 b", "")
        ]
    );
}

#[test]
fn other_commands_are_refused() {
    for text in [
        "",
        "1.2.3.4\n",
        "$ rm -rf x\n",
        "$ dig -p 1053 a\n",
        "$ dig a\n",
    ] {
        assert!(steps(text).is_err(), "{text}");
    }
}

#[test]
fn output_is_normalised() {
    let output = ";; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 4711\n\nb\na\n;; WHEN: now\n";
    assert_eq!(
        shown(output, true),
        [
            ";; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 0",
            "a",
            "b"
        ]
    );
    assert_eq!(shown("b\na.\t\t30\tIN\n", false), ["b", "a. 30 IN"]);
}
