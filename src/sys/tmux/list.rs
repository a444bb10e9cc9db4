//! Requests and parses the list of panes.
//! Takes tmux's answer, in which titles are foreign text; returns rows. Pure. A title can't forge a row: every row
//! begins with a word that no program in a pane knows, and the title comes last.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{quote::Command, target::Target, text};
use crate::model::{
    ids::SessionName,
    pane::{Exit, Pane, PaneId},
};

/// The user option in which a pane remembers its incarnation.
pub const MARK: &str = "@claude_failover";
/// The one in which it remembers whose it is: a person may rename its tmux session, or move it to another.
pub const OWNER: &str = "@claude_failover_session";

/// What is asked of each pane; `pane_title` last, because only there a separator can occur.
const FIELDS: [&str; 18] = [
    "pid",
    "session_name",
    "session_id",
    "pane_id",
    "pane_pid",
    "pane_dead",
    "pane_dead_status",
    "pane_dead_signal",
    "session_attached",
    "window_activity",
    "cursor_x",
    "cursor_y",
    "history_size",
    "history_bytes",
    "pane_in_mode",
    MARK,
    OWNER,
    "pane_title",
];

/// One pane as tmux lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its owner's name, where it bears our mark; else the tmux session's.
    pub session: SessionName,
    /// The tmux session that holds it has the name of its owner.
    pub home: bool,
    /// tmux's own id of the session (`$3`).
    pub session_id: String,
    pub target: Target,
    pub pid: u32,
    pub dead: bool,
    pub exit: Option<Exit>,
    pub title: String,
    pub incarnation: Option<String>,
    pub attached: u32,
    /// Second of the last output, by the wall clock.
    pub activity: i64,
    pub change: u64,
}

impl Row {
    #[must_use]
    pub fn into_pane(self) -> Pane {
        let exit = if self.dead { Some(self.exit.unwrap_or(Exit::Unknown)) } else { None };
        Pane {
            session: self.session,
            id: self.target.id(),
            pid: self.pid,
            exit,
            title: self.title,
            incarnation: self.incarnation,
            attached: self.attached,
            change: self.change,
        }
    }
}

/// Writes and reads lists; `nonce` begins every row.
#[derive(Debug)]
pub struct Lister {
    nonce: String,
}

impl Lister {
    #[must_use]
    pub fn new(nonce: String) -> Self {
        Self { nonce }
    }

    /// Every pane of the server.
    #[must_use]
    pub fn all(&self) -> Command {
        Command::new("list-panes").arg("-a").arg("-F").arg(self.format())
    }

    /// The panes that have shown something since a second of the wall clock, and the dead ones.
    #[must_use]
    pub fn moved(&self, since: i64) -> Command {
        let moved = format!("#{{||:#{{pane_dead}},#{{e|>=:#{{window_activity}},{since}}}}}");
        Command::new("list-panes").arg("-a").arg("-f").arg(moved).arg("-F").arg(self.format())
    }

    /// Every pane of one session. `target` must be exact.
    #[must_use]
    pub fn of_session(&self, target: &str) -> Command {
        Command::new("list-panes").arg("-s").arg("-t").arg(target).arg("-F").arg(self.format())
    }

    /// Every pane of a session, wherever it is.
    #[must_use]
    pub fn owned(&self, session: &SessionName) -> Command {
        let owned = format!("#{{||:#{{==:#{{session_name}},{session}}},#{{==:#{{{OWNER}}},{session}}}}}");
        Command::new("list-panes").arg("-a").arg("-f").arg(owned).arg("-F").arg(self.format())
    }

    fn format(&self) -> String {
        let fields: Vec<String> = FIELDS.iter().map(|field| format!("#{{{field}}}")).collect();
        format!("{}\t{}", self.nonce, fields.join("\t"))
    }

    /// The rows of an answer, one a session: the pane that bears our mark, else the first of the first window. Sessions
    /// whose name can't be a `SessionName` are left out: nothing here could speak of them.
    #[must_use]
    pub fn rows(&self, answer: &str) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut place: HashMap<SessionName, usize> = HashMap::new();
        for row in answer.lines().filter_map(|line| self.row(line)) {
            match place.get(&row.session) {
                None => {
                    place.insert(row.session.clone(), rows.len());
                    rows.push(row);
                }
                // A person may have opened a window or a split before ours.
                Some(&at) => {
                    if let Some(chosen) = rows.get_mut(at)
                        && chosen.incarnation.is_none()
                        && row.incarnation.is_some()
                    {
                        *chosen = row;
                    }
                }
            }
        }
        rows
    }

    fn row(&self, line: &str) -> Option<Row> {
        let rest = line.strip_prefix(&self.nonce)?.strip_prefix('\t')?;
        let fields: Vec<&str> = rest.splitn(FIELDS.len(), '\t').collect();
        let [
            server,
            session,
            session_id,
            pane,
            pid,
            dead,
            status,
            signal,
            attached,
            activity,
            x,
            y,
            lines,
            bytes,
            mode,
            mark,
            owner,
            title,
        ] = fields.as_slice()
        else {
            return None;
        };
        let mut hasher = DefaultHasher::new();
        (pane, pid, dead, activity, x, y, lines, bytes, mode, mark, title).hash(&mut hasher);
        let exit = status.parse().ok().map(Exit::Status).or_else(|| signal.parse().ok().map(Exit::Signal));
        let owner = SessionName::parse(owner).ok().filter(|_| mark_ok(mark));
        Some(Row {
            home: owner.as_ref().is_none_or(|owner| owner.as_str() == *session),
            session: owner.or_else(|| SessionName::parse(session).ok())?,
            session_id: (*session_id).to_owned(),
            target: Target { pane: (*pane).to_owned(), server: server.parse().ok()? },
            pid: pid.parse().ok()?,
            dead: *dead == "1",
            exit,
            title: text::line(title),
            incarnation: mark_ok(mark).then(|| (*mark).to_owned()),
            attached: attached.parse().unwrap_or(0),
            activity: activity.parse().unwrap_or(i64::MAX),
            change: hasher.finish(),
        })
    }
}

/// Characters allowed in a mark: those that survive a list and a format unchanged.
#[must_use]
pub fn mark_ok(mark: &str) -> bool {
    !mark.is_empty() && mark.len() <= 128 && mark.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
}

/// Makes `change` differ while the last output is so young that more may have come in the same second, which is as fine
/// as tmux tells. `tick` must differ from look to look.
pub fn blur_young(rows: &mut [Row], now: i64, tick: u64) {
    for row in rows.iter_mut().filter(|row| row.activity >= now - 1) {
        let mut hasher = DefaultHasher::new();
        (row.change, tick).hash(&mut hasher);
        row.change = hasher.finish();
    }
}

/// Panes whose end tmux hasn't fully reported: dead without a cause or, by `ended`, ended without being dead.
#[must_use]
pub fn unclear(rows: &[Row], ended: impl Fn(&Row) -> bool) -> HashSet<PaneId> {
    rows.iter().filter(|row| row.exit.is_none() && (row.dead || ended(row))).map(|row| row.target.id()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(session: &str, pane: &str, mark: &str, title: &str) -> String {
        format!("nonce\t77\t{session}\t$1\t{pane}\t42\t0\t\t\t1\t1000\t3\t4\t10\t99\t0\t{mark}\t\t{title}")
    }

    fn rows(lines: &[String]) -> Vec<Row> {
        Lister::new("nonce".into()).rows(&lines.join("\n"))
    }

    #[test]
    fn a_title_can_neither_move_a_field_nor_forge_a_row() {
        let evil = format!("x\t1\t1\u{9b}\n{}\nnonc\te", line("b", "%9", "", "t").replacen("nonce", "n", 1));
        let read = rows(&[line("a", "%1", "inc", &evil), line("c", "%2", "", "plain")]);
        assert_eq!(read.iter().map(|r| r.session.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!((read[0].title.as_str(), read[0].incarnation.as_deref()), ("x11", Some("inc")));
    }

    #[test]
    fn our_pane_is_found_behind_a_persons_split() {
        let read = rows(&[line("a", "%5", "", ""), line("a", "%1", "inc", ""), line("a", "%2", "other", "")]);
        assert_eq!(read.iter().map(|r| r.target.pane.as_str()).collect::<Vec<_>>(), ["%1"]);
        let read = rows(&[line("a", "%5", "", ""), line("a", "%6", "", "")]);
        assert_eq!(read[0].target.pane, "%5");
    }

    #[test]
    fn a_pane_is_its_owner_s_wherever_a_person_moves_it() {
        let moved = |session: &str| line(session, "%1", "inc", "").replacen("\tinc\t\t", "\tinc\ta\t", 1);
        let read = rows(&[moved("my work")]);
        assert_eq!((read[0].session.as_str(), read[0].home), ("a", false));
        let read = rows(&[line("other", "%5", "", ""), moved("other")]);
        assert_eq!(read.iter().map(|r| r.session.as_str()).collect::<Vec<_>>(), ["other", "a"]);
        assert!(rows(&[moved("a")])[0].home);
    }

    #[test]
    fn names_that_are_no_session_names_are_left_out() {
        assert_eq!(rows(&[line("_claude-failover", "%0", "", ""), line("a b", "%1", "", "")]), []);
    }

    #[test]
    fn causes_of_death_are_read() {
        let dead = |status: &str, signal: &str| {
            let alive = line("a", "%1", "", "").replacen("\t0\t\t\t", &format!("\t1\t{status}\t{signal}\t"), 1);
            rows(&[alive])[0].clone().into_pane().exit
        };
        assert_eq!(dead("3", ""), Some(Exit::Status(3)));
        assert_eq!(dead("", "9"), Some(Exit::Signal(9)));
        assert_eq!(dead("", ""), Some(Exit::Unknown));
        assert_eq!(rows(&[line("a", "%1", "", "")])[0].clone().into_pane().exit, None);
    }

    #[test]
    fn young_output_counts_as_changed_until_its_second_is_over() {
        let look = |now, tick| {
            let mut read = rows(&[line("a", "%1", "", "")]);
            blur_young(&mut read, now, tick);
            read[0].change
        };
        assert_ne!(look(1000, 1), look(1000, 2));
        assert_ne!(look(1001, 3), look(1002, 4), "the look after the second is over must differ from those in it");
        assert_eq!(look(1002, 4), look(1003, 5));
        assert_ne!(look(900, 1), look(900, 2), "a clock set back hides nothing");
    }
}
