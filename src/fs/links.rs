//! Where the tree's symbolic links point, and which directories its rows lead to.
//! In: a picture and an object. Out: a relative path, or nothing where there is nothing to point at.

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
pub fn task_link(picture: &Picture, object: &Object) -> Option<PathBuf> {
    let Object::Session(name) = object else { return None };
    let task = &picture.snapshot.sessions.get(name)?.task.as_ref()?.task;
    // A task that is gone from the picture would leave the link dangling.
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
