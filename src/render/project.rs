//! What is laid over a project's queue directory.

use crate::{
    model::snapshot::Project,
    render::{Picture, words},
};

#[must_use]
pub fn status(picture: &Picture, project: &Project) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (key, task) in picture.snapshot.tasks.iter().filter(|(key, _)| key.project == project.name) {
        let session = task.phase.run().map_or_else(String::new, |run| run.session.to_string());
        let age = words::age(picture.now, task.since);
        rows.push(vec![key.id.to_string(), task.phase.word().to_owned(), age, session]);
    }
    let [held, queued, rejected, working] = picture.snapshot.open_counts(&project.name);
    let counts = project.counts;
    format!(
        "{}: {queued} queued, {working} working, {held} held, {rejected} rejected; {} drafts, {} done, {} failed\n{}",
        project.name,
        counts.drafts,
        counts.done,
        counts.failed,
        words::table(&rows)
    )
}
