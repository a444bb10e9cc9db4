//! Targets of the tree's symbolic links, and the directories that its rows lead to.
//! Takes a snapshot and an object; returns a relative path, or nothing if there is no target.

use std::path::PathBuf;

use super::tree::Object;
use crate::render::Picture;

#[must_use]
pub fn tasks_dir(object: &Object) -> Object {
    match object {
        Object::Project(name) => Object::ProjectTasks(name.clone()),
        other => other.clone(),
    }
}

#[must_use]
pub fn delegated_dir(object: &Object) -> Object {
    match object {
        Object::Project(name) => Object::Delegated(Some(name.clone())),
        other => other.clone(),
    }
}

#[must_use]
pub fn task_link(picture: &Picture, object: &Object) -> Option<PathBuf> {
    let Object::Session(name) = object else { return None };
    let task = &picture.snapshot.sessions.get(name)?.task.as_ref()?.task;
    // A task missing from the snapshot would leave the link dangling.
    picture
        .snapshot
        .tasks
        .contains_key(task)
        .then(|| PathBuf::from("../../tasks").join(picture.snapshot.display_id(task)))
}

#[must_use]
pub fn home_link(picture: &Picture, object: &Object) -> Option<PathBuf> {
    let Object::Account(name) = object else { return None };
    picture.snapshot.accounts.iter().find(|account| account.name == *name).map(|account| account.home.clone())
}
