//! Chooses the agent of a task by the words of its name and text (`agent_by_words`), where the task itself names none.
//! In: the rows of the configuration, a task's name and text. Out: the first row that fits. Pure.

use crate::model::ids::{AgentName, TaskId};

/// Tasks in whose name or text one of these words stands are this agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByWords {
    /// As the configuration has them.
    pub words: Vec<String>,
    pub agent: AgentName,
}

/// What a row found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub agent: AgentName,
    pub word: String,
}

/// The agent of the first row with a word that stands in the name or the text, as a whole word in any case.
#[must_use]
pub fn choose(rows: &[ByWords], id: &TaskId, text: &str) -> Option<Found> {
    if rows.is_empty() {
        return None;
    }
    let known = format!("{}{}", normal(id.as_str()), normal(text));
    rows.iter().find_map(|row| {
        let word = row.words.iter().find(|word| is_usable(word) && known.contains(&normal(word)))?;
        Some(Found { agent: row.agent.clone(), word: word.clone() })
    })
}

/// Whether it can stand in a text: it has a letter or a digit.
#[must_use]
pub fn is_usable(word: &str) -> bool {
    word.contains(char::is_alphanumeric)
}

/// The words of a text in small letters, each between blanks.
fn normal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(' ');
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        out.extend(word.chars().flat_map(char::to_lowercase));
        out.push(' ');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(id: &str, text: &str) -> Option<String> {
        let row = |words: &[&str], agent: &str| ByWords {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            agent: AgentName::parse(agent).expect("a name"),
        };
        let rows = [row(&["marketing", "Campaign", "landing page", "-"], "marketer"), row(&["SQL", "Öl"], "database")];
        let found = choose(&rows, &TaskId::from_file_name(&format!("{id}.md")).expect("an id"), text)?;
        Some(format!("{}: {}", found.agent, found.word))
    }

    #[test]
    fn whole_words_in_any_case_in_name_and_text_and_the_first_row_first() {
        assert_eq!(found("a", "Plan the MARKETING, please").as_deref(), Some("marketer: marketing"));
        assert_eq!(found("spring-campaign_2", "go").as_deref(), Some("marketer: Campaign"));
        assert_eq!(found("a", "the landing\n  page").as_deref(), Some("marketer: landing page"));
        assert_eq!(found("a", "sql for the campaign").as_deref(), Some("marketer: Campaign"), "rows in order");
        assert_eq!(found("a", "tune (sql)").as_deref(), Some("database: SQL"));
        assert_eq!(found("a", "das öl").as_deref(), Some("database: Öl"));
    }

    #[test]
    fn parts_of_words_and_words_across_name_and_text_fit_nothing() {
        for (id, text) in [("a", "campaigns, mysql, nosql"), ("landing", "page"), ("a", "---"), ("a", "boil")] {
            assert_eq!(found(id, text), None, "{id}: {text}");
        }
    }
}
