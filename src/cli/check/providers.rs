//! Checks providers: their URLs and keys, and tasks that ask for a provider that isn't configured.

use std::{fs, io::Read as _, path::Path};

use crate::{
    cli::check::{report::Report, scene::Scene},
    config::{Provider, queue::queue_dir},
    model::{
        route::{AUTO, CLAUDE_CODE},
        task_file::{self, Reading},
    },
};

/// Tasks of one inbox that are checked. Chosen: `check` should take no longer than a moment.
const TASKS_MAX: usize = 1000;
/// Bytes read of a task. Chosen: more than any frontmatter.
const HEAD: u64 = 64 * 1024;

pub fn providers(scene: &Scene<'_>, report: &mut Report) {
    for (name, provider) in &scene.config.providers {
        let key = key(provider, scene);
        match key {
            Ok(key) => report.ok(format!(
                "provider {name}: {} at {}, {key}",
                provider.kind.name(),
                provider.base_url().unwrap_or_default()
            )),
            Err((at, why)) => report.problem(
                format!("providers.{name}.{at}"),
                why,
                "set it where the daemon is started, and here for `check`; then `reload` or restart the daemon",
            ),
        }
    }
    wanted(scene, report);
}

/// Where its key is; which setting is wrong, and why.
fn key(provider: &Provider, scene: &Scene<'_>) -> Result<String, (&'static str, String)> {
    if let Some(name) = &provider.key_env {
        let set = (scene.env)(name).is_some_and(|value| !value.is_empty());
        return if set {
            Ok(format!("key in ${name}"))
        } else {
            Err(("key_env", format!("there is no key: the environment variable {name} is not set")))
        };
    }
    if let Some(path) = &provider.key_file {
        let shown = path.display();
        return match fs::metadata(path) {
            Ok(meta) if meta.len() == 0 => Err(("key_file", format!("the key file {shown} is empty"))),
            Ok(_) => Ok(format!("key in {shown}")),
            Err(error) => Err(("key_file", format!("can't read the key file {shown}: {error}"))),
        };
    }
    Ok("without a key".to_owned())
}

/// Tasks whose `preferred_ai` nobody serves: a session here would do them.
fn wanted(scene: &Scene<'_>, report: &mut Report) {
    let config = scene.config;
    let serves = |word: &str| {
        let row = |(name, row): (&crate::model::ids::ProviderName, &Provider)| {
            let own = row.kind.serves().iter().any(|own| own.eq_ignore_ascii_case(word));
            name.as_str().eq_ignore_ascii_case(word)
                || own
                || row.serves.iter().any(|own| own.eq_ignore_ascii_case(word))
        };
        word.eq_ignore_ascii_case(CLAUDE_CODE) || word.eq_ignore_ascii_case(AUTO) || config.providers.iter().any(row)
    };
    for project in &config.projects {
        let Ok(queue) = queue_dir(&project.path, |at| at == scene.point) else { continue };
        let Ok(inbox) = fs::read_dir(queue.join("inbox")) else { continue };
        for entry in inbox.flatten().take(TASKS_MAX) {
            let path = entry.path();
            if path.extension().is_none_or(|end| end != "md") || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            let Some(Reading::Ready { spec, .. }) = head(&path).map(|bytes| task_file::read(&bytes)) else { continue };
            if let Some(word) = spec.preferred_ai.as_deref().filter(|word| !serves(word)) {
                report.note(format!(
                    "{}: no provider is called `{word}` or serves it, so a session here does this task",
                    path.display()
                ));
            }
        }
    }
}

fn head(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(HEAD).read_to_end(&mut bytes).ok()?;
    // A cut in the middle of a letter is no fault of the task.
    let whole = bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
    bytes.truncate(whole);
    Some(bytes)
}
