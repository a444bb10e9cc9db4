//! Renders `README` from the tree's table.

use std::fmt::Write as _;

use super::tree::{self, Row, What};
use crate::render::{Picture, words};

const SECTIONS: [(&str, &[Row]); 8] = [
    ("", tree::ROOT_ROWS),
    ("tasks/<id>/", tree::TASK_ROWS),
    ("projects/<project>/", tree::PROJECT_ROWS),
    ("sessions/<name>/", tree::SESSION_ROWS),
    ("accounts/", tree::ACCOUNTS_ROWS),
    ("accounts/<name>/", tree::ACCOUNT_ROWS),
    ("delegated/<id>", tree::JOB_ROWS),
    ("providers/<name>/", tree::PROVIDER_ROWS),
];

#[must_use]
pub fn readme(_: &Picture) -> String {
    let mut out = String::from(
        "claude-failover: a supervisor for coding agents in tmux, whose whole state is this directory.\n\
         A task is a file, moving it is the verb, reading is the query.\n",
    );
    for (place, rows) in SECTIONS {
        let _ = writeln!(out, "\n{}", if place.is_empty() { "here" } else { place });
        let line = |row: &Row| vec![name(row), mode(row), row.help.to_owned()];
        out.push_str(&words::table(&rows.iter().map(line).collect::<Vec<_>>(), 0));
    }
    out.push_str(
        "\nverbs\n  mv inbox/x.md drafts/ holds, back sends; mv done/x.md inbox/ or failed/x.md inbox/ runs again; rm inbox/x.md cancels.\n\
         \x20 mv inbox/x.md delegated/ sends it to a provider, mv delegated/x.md inbox/ takes it back.\n\
         \x20 echo NAME > accounts/active swaps to that account.\n\
         \x20 cat control, tasks/<id>/control and sessions/<name>/control list theirs.\n\
         \nerrors of a write to control\n  EINVAL unknown verb or wrong arguments; ENOENT no such object; EBUSY in use, or a swap under way;\n\
         \x20 ENXIO no agent or provider there; EAGAIN no account to swap to; EIO tried and undone; EUCLEAN a swap is half done; EPERM not allowed; EMSGSIZE too long; EDQUOT queue full.\n\
         \x20 The sentence stands in control, with the text as written.\n",
    );
    out
}

fn name(row: &Row) -> String {
    match row.what {
        What::Dir(_) | What::Queue => format!("{}/", row.name),
        What::Link(_) => format!("{}@", row.name),
        _ => row.name.to_owned(),
    }
}

fn mode(row: &Row) -> String {
    match row.what {
        What::Control | What::Input | What::Keys | What::Queue => "rw".to_owned(),
        _ => "r".to_owned(),
    }
}
