//! The page as prose and blocks.

/// Markdown, with the blocks that are run taken apart.
pub(super) struct Page(Vec<Part>);

enum Part {
    Prose(String),
    Step(Step),
}

/// A command or request, and what the page shows of its answer.
pub(super) struct Step {
    pub(super) line: usize,
    /// A request, else a command.
    pub(super) http: bool,
    pub(super) asked: String,
    pub(super) shown: String,
}

impl Page {
    pub(super) fn read(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((_, line)) = lines.next() {
            parts.push(Part::Prose(line.to_owned()));
            let block = lines.by_ref().take_while(|(_, line)| *line != "```");
            match line {
                "```console" => parts.extend(commands(block).into_iter().map(Part::Step)),
                "```http" => parts.push(Part::Step(request(block))),
                _ => continue,
            }
            parts.push(Part::Prose("```".to_owned()));
        }
        Self(parts)
    }

    pub(super) fn steps(&mut self) -> impl Iterator<Item = &mut Step> {
        self.0.iter_mut().filter_map(|part| match part {
            Part::Prose(_) => None,
            Part::Step(step) => Some(step),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Prose(line) => text.push_str(line),
                Part::Step(Step { http: true, asked, shown, .. }) => {
                    text.push_str(&format!("{asked}\n---\n{shown}"));
                }
                Part::Step(Step { asked, shown, .. }) if shown.is_empty() => {
                    text.push_str(&format!("$ {asked}"))
                }
                Part::Step(Step { asked, shown, .. }) => text.push_str(&format!("$ {asked}\n{shown}")),
            }
            text.push('\n');
        }
        text
    }
}

/// Lines after `$ ` are commands, which go on after a `\`; those below are what they print.
fn commands<'a>(block: impl Iterator<Item = (usize, &'a str)>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (line, words) in block {
        match (words.strip_prefix("$ "), steps.last_mut()) {
            (Some(asked), _) => {
                steps.push(Step {
                    line: line + 1,
                    http: false,
                    asked: asked.to_owned(),
                    shown: String::new(),
                });
            }
            (None, Some(step)) if step.shown.is_empty() && step.asked.ends_with('\\') => {
                step.asked.push_str(&format!("\n{words}"));
            }
            (None, Some(step)) if step.shown.is_empty() => step.shown.push_str(words),
            (None, Some(step)) => step.shown.push_str(&format!("\n{words}")),
            (None, None) => panic!("line {}: a console block begins with a command", line + 1),
        }
    }
    steps
}

/// A request, a line `---`, and its answer.
fn request<'a>(block: impl Iterator<Item = (usize, &'a str)>) -> Step {
    let (lines, words): (Vec<_>, Vec<_>) = block.unzip();
    let rule = words.iter().position(|line| *line == "---").expect("a request, a line ---, an answer");
    Step {
        line: lines[0] + 1,
        http: true,
        asked: words[..rule].join("\n"),
        shown: words[rule + 1..].join("\n"),
    }
}
