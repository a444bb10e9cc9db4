//! The findings of `check` and how they are printed.

use std::io::Write;

use crate::{
    cli::table::clean,
    config::{Loaded, Places, error::point},
};

#[derive(Debug)]
struct Problem {
    /// Dotted path of the key it is about; empty when it is about the machine.
    key: String,
    message: String,
    remedy: String,
}

#[derive(Debug, Default)]
pub struct Report {
    problems: Vec<Problem>,
    /// Problems of the configuration file, each a text of its own, ready to show.
    unread: Vec<String>,
    notes: Vec<(&'static str, String)>,
}

impl Report {
    pub fn problem(&mut self, key: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem { key: key.into(), message: message.into(), remedy: remedy.into() });
    }

    /// Something that is in order, was mended, or will be by itself.
    pub fn ok(&mut self, text: impl Into<String>) {
        self.notes.push(("ok", text.into()));
    }

    /// Something to know that keeps nothing from working.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(("note", text.into()));
    }

    /// A problem in another file, whose text says where.
    pub fn ready(&mut self, text: String, remedy: &str) {
        self.unread.push(format!("{text}\n  -> {remedy}"));
    }

    /// There is no configuration to look at.
    pub fn unread(&mut self, why: String) {
        self.unread.push(why);
    }

    /// What is wrong in the file, whatever else is.
    pub fn wrong(&mut self, loaded: &Loaded) {
        let Loaded { file, text, problems, .. } = loaded;
        self.unread.extend(problems.iter().map(|problem| point(file, text, problem.place, &problem.message)));
    }

    /// What is said of a value that could not be read would be said of a default.
    pub fn leave_out_doubtful(&mut self, places: &Places) {
        self.problems.retain(|problem| problem.key.is_empty() || !places.doubtful(&problem.key));
    }

    #[must_use]
    pub fn problems(&self) -> usize {
        self.problems.len() + self.unread.len()
    }

    /// # Errors
    /// The writer's own.
    pub fn write(&self, loaded: Option<&Loaded>, out: &mut dyn Write) -> std::io::Result<()> {
        for (word, note) in &self.notes {
            writeln!(out, "{word}: {}", clean(note))?;
        }
        for text in &self.unread {
            writeln!(out, "\n{text}")?;
        }
        for problem in &self.problems {
            let message = clean(&problem.message);
            match loaded.filter(|_| !problem.key.is_empty()) {
                Some(loaded) if loaded.places.around(&problem.key) => {
                    let shown = point(&loaded.file, &loaded.text, loaded.places.of(&problem.key), &message);
                    writeln!(out, "\n{shown}")?;
                }
                Some(_) => writeln!(out, "\n{}: {message}", problem.key)?,
                None => writeln!(out, "\n{message}")?,
            }
            writeln!(out, "  -> {}", clean(&problem.remedy))?;
        }
        match self.problems() {
            0 => writeln!(out, "\nno problems"),
            1 => writeln!(out, "\n1 problem"),
            n => writeln!(out, "\n{n} problems"),
        }
    }
}
