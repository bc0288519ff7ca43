//! The page as prose and blocks.

/// Markdown, with the blocks that are run taken apart.
pub(super) struct Page(Vec<Part>);

enum Part {
    Prose(String),
    Block(Block),
}

/// A fenced block that is run.
pub(super) enum Block {
    /// Lines after `$ ` are commands, those below what they print.
    Console(Vec<Step>),
    /// A request, a line `---`, and the answer.
    Http(Vec<Step>),
}

/// A command or request and what the page shows of its answer.
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) asked: String,
    pub(super) shown: String,
}

impl Block {
    pub(super) fn steps(&mut self) -> &mut Vec<Step> {
        match self {
            Self::Console(steps) | Self::Http(steps) => steps,
        }
    }
}

impl Page {
    pub(super) fn read(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            if line != "```console" && line != "```http" {
                parts.push(Part::Prose(line.to_owned()));
                continue;
            }
            let body: Vec<(usize, &str)> = lines
                .by_ref()
                .map(|(number, line)| (number + 1, line))
                .take_while(|(_, line)| *line != "```")
                .collect();
            parts.push(Part::Block(if line == "```console" {
                Block::Console(commands(&body))
            } else {
                let words: Vec<&str> = body.iter().map(|(_, line)| *line).collect();
                let rule = words.iter().position(|line| *line == "---").unwrap_or(words.len());
                let shown = words.get(rule + 1..).unwrap_or_default().join("\n");
                Block::Http(vec![Step { line: number + 2, asked: words[..rule].join("\n"), shown }])
            }));
        }
        Self(parts)
    }

    pub(super) fn blocks(&mut self) -> impl Iterator<Item = &mut Block> {
        self.0.iter_mut().filter_map(|part| match part {
            Part::Prose(_) => None,
            Part::Block(block) => Some(block),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Prose(line) => text.push_str(line),
                Part::Block(Block::Console(steps)) => {
                    text.push_str("```console\n");
                    for step in steps {
                        text.push_str(&format!("$ {}\n", step.asked));
                        if !step.shown.is_empty() {
                            text.push_str(&format!("{}\n", step.shown));
                        }
                    }
                    text.push_str("```");
                }
                Part::Block(Block::Http(steps)) => {
                    for Step { asked, shown, .. } in steps {
                        text.push_str(&format!("```http\n{asked}\n---\n{shown}\n```"));
                    }
                }
            }
            text.push('\n');
        }
        text
    }
}

fn commands(body: &[(usize, &str)]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut continues = false;
    for &(line, words) in body {
        match (words.strip_prefix("$ "), steps.last_mut()) {
            (Some(asked), _) => steps.push(Step { line, asked: asked.to_owned(), shown: String::new() }),
            (None, Some(step)) if continues => step.asked.push_str(&format!("\n{words}")),
            (None, Some(step)) => {
                if !step.shown.is_empty() {
                    step.shown.push('\n');
                }
                step.shown.push_str(words);
            }
            (None, None) => panic!("line {line}: a console block begins with a command"),
        }
        continues = words.ends_with('\\');
    }
    steps
}
