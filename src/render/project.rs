//! Renders the files overlaid on a project's queue directory.
//! Takes a snapshot and a project. Reads and keeps nothing.

use crate::{
    model::snapshot::Project,
    render::{Picture, task, words},
};

#[must_use]
pub fn status(picture: &Picture, project: &Project) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (key, one) in picture.snapshot.tasks.iter().filter(|(key, _)| key.project == project.name) {
        let session = task::place(one);
        let age = words::age(picture, one.since);
        rows.push(vec![key.id.to_string(), one.phase.word().to_owned(), age, session]);
    }
    let [held, queued, rejected, working, delegated] = picture.snapshot.tasks.open_counts(&project.name);
    let counts = project.counts;
    let ignored = picture.snapshot.ignored.get(&project.name).map(|files| files.as_slice()).unwrap_or_default();
    let ignored: String = ignored.iter().map(|file| format!("IGNORED {}: {}\n", file.name, file.why)).collect();
    format!(
        "{}: {queued} queued, {working} working, {delegated} delegated, {held} held, {rejected} rejected; {} drafts, {} done, {} failed\n{ignored}{}",
        project.name,
        counts.drafts,
        counts.done,
        counts.failed,
        words::table(&rows, 0)
    )
}
