//! An agent's kind: a built-in one, one with a user's rules merged over it, or a user's own.
//! Takes a name and a rules file's text; returns shared `Rules`. An unusable file leaves the kind's own rules.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, LazyLock, OnceLock},
};

use serde_json::Value;

use super::{built_in, file, format::Rules};

/// The kind whose program is the configuration's own (`run`). Of all others nothing but their rules is known.
const COMMAND: &str = "command";

/// Read when they are asked for: most commands of this program need none.
static BUILT_IN: LazyLock<BTreeMap<&str, OnceLock<Rules>>> =
    LazyLock::new(|| built_in::names().map(|name| (name, OnceLock::new())).collect());

static NOTHING: LazyLock<Rules> = LazyLock::new(Rules::default);

/// An agent's kind.
#[derive(Debug, Clone)]
pub struct Kind {
    name: Arc<str>,
    own: Option<Arc<Own>>,
}

/// The result of a user's rules file.
#[derive(Debug)]
struct Own {
    /// As the file has it: two kinds with one value are one.
    value: Value,
    rules: Option<Rules>,
    problem: Option<String>,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        let own = |kind: &Self| kind.own.as_ref().map(|own| (own.value.clone(), own.problem.clone()));
        self.name == other.name && own(self) == own(other)
    }
}

impl Kind {
    /// A kind by its name alone.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), own: None }
    }

    /// The same with a person's rules file.
    #[must_use]
    pub fn with_rules(&self, file: &Path, text: &str) -> Self {
        let own = match file::read(file, text, &self.name) {
            Ok((value, rules)) => Own { value, rules: Some(rules), problem: None },
            Err(problems) => Own { value: Value::Null, rules: None, problem: Some(problems.to_string()) },
        };
        Self { name: Arc::clone(&self.name), own: Some(Arc::new(own)) }
    }

    /// The same with a rules file that can't be read.
    #[must_use]
    pub fn without_rules(&self, problem: String) -> Self {
        let own = Own { value: Value::Null, rules: None, problem: Some(problem) };
        Self { name: Arc::clone(&self.name), own: Some(Arc::new(own)) }
    }

    /// Every built-in one, in the order of their names.
    pub fn built_in() -> impl Iterator<Item = Self> {
        built_in::names().map(Self::new)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether anything says what it is.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.own.is_some() || BUILT_IN.contains_key(&*self.name)
    }

    #[must_use]
    pub fn is_command(&self) -> bool {
        &*self.name == COMMAND
    }

    /// Everything that is wrong with its rules file.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.own.as_ref()?.problem.as_deref()
    }

    #[must_use]
    pub fn rules(&self) -> &Rules {
        if let Some(rules) = self.own.as_ref().and_then(|own| own.rules.as_ref()) {
            return rules;
        }
        let read = || built_in::rules(&self.name).and_then(|value| serde_json::from_value(value).ok());
        BUILT_IN.get(&*self.name).map_or(&*NOTHING, |rules| rules.get_or_init(|| read().unwrap_or_default()))
    }

    /// The program that its rules name, where it isn't this one.
    #[must_use]
    pub fn program(&self) -> Option<&str> {
        self.rules().launch.program.first().map(String::as_str).filter(|program| !program.contains('{'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid_over(kind: &str, text: &str) -> Kind {
        Kind::new(kind).with_rules(Path::new("r.yaml"), text)
    }

    #[test]
    fn every_built_in_kind_can_be_read() {
        let mut names = Vec::new();
        for kind in Kind::built_in() {
            let value = built_in::rules(kind.name()).expect("YAML");
            let rules: Result<Rules, _> = serde_json::from_value(value);
            assert!(rules.is_ok(), "{}: {rules:?}", kind.name());
            assert!(!kind.rules().launch.program.is_empty(), "{}", kind.name());
            names.push(kind.name().to_owned());
        }
        assert!(names.len() >= 6 && names.contains(&COMMAND.to_owned()), "{names:?}");
    }

    #[test]
    fn an_override_changes_only_what_it_names() {
        let text = "launch: {args: [--mine]}\nscreen: {rules: [{rule: mine, region: last, match: ^!, mean: busy}]}\n";
        let (plain, over) = (Kind::new("claude"), laid_over("claude", text));
        let words = |kind: &Kind| kind.rules().launch.args.iter().map(|word| word.word.clone()).collect::<Vec<_>>();
        assert_eq!((words(&over), over.problem()), (vec!["--mine".to_owned()], None));
        assert_eq!(over.rules().launch.resume.len(), plain.rules().launch.resume.len());
        assert_eq!(over.rules().screen.rules.len(), plain.rules().screen.rules.len() + 1);
        assert_eq!(over.rules().screen.rules[0].rule, "mine");
        assert_ne!(plain, over);
        assert_eq!(over, laid_over("claude", text));
    }

    #[test]
    fn a_kind_of_one_s_own_stands_alone_or_on_a_built_in_one() {
        let alone = laid_over("mine", "launch: {program: [mine, --quiet]}\n");
        assert_eq!((alone.problem(), alone.program()), (None, Some("mine")));
        assert!(alone.rules().screen.rules.is_empty() && alone.is_known() && !Kind::new("mine").is_known());
        let on = laid_over("mine", "based_on: gemini\nlaunch: {program: [mine]}\n");
        assert_eq!((on.problem(), on.program()), (None, Some("mine")));
        assert_eq!(on.rules().screen.rules.len(), Kind::new("gemini").rules().screen.rules.len());
        let demo = laid_over("mine", "based_on: demo\n");
        assert_eq!((demo.problem(), demo.program()), (None, None), "this program is nobody's to look for");
    }

    #[test]
    fn rules_that_can_t_be_used_leave_the_kind_s_own() {
        let broken = laid_over("claude", "lunch: {}\n");
        assert!(broken.problem().expect("a problem").contains("r.yaml:1:1: no key is called `lunch` here"));
        assert_eq!(broken.program(), Some("claude"));
        assert!(laid_over("mine", "lunch: {}\n").rules().launch.program.is_empty());
    }
}
