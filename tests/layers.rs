//! The layers that ARCHITECTURE.md draws are those of the code: every `crate::` path outside of tests is in its table.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

type Table = BTreeMap<String, BTreeSet<String>>;

fn words(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Rows of the table below `## Layers`: a module and what it may use.
fn allowed(text: &str) -> Table {
    let section = text.split("\n## ").find(|section| section.starts_with("Layers")).expect("a section Layers");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let module = words(cells[0]).pop_first().expect("a module");
        (module, words(cells.last().expect("a last cell")))
    })
    .collect()
}

/// Names after `crate::`, in braces too.
fn used(code: &str) -> BTreeSet<String> {
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let name = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(inside) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (at, c) in inside.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    found.insert(name(&inside[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    found.remove("");
    found
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, out);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            out.push(entry);
        }
    }
}

fn code() -> Vec<(String, String)> {
    let src = Path::new(ROOT).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let relative = |path: &Path| path.strip_prefix(&src).expect("below src").display().to_string();
    files.iter().map(|path| (relative(path), fs::read_to_string(path).expect("a text"))).collect()
}

fn module(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or(file)
}

#[test]
fn no_module_uses_what_its_layer_forbids() {
    let table = allowed(&fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md")).expect("ARCHITECTURE.md"));
    let mut wrong = Vec::new();
    for (file, text) in code() {
        let module = module(&file);
        if ["lib", "main", "daemon"].contains(&module) {
            continue;
        }
        let Some(may) = table.get(module) else {
            wrong.push(format!("src/{file}: {module} has no row in ARCHITECTURE.md's table"));
            continue;
        };
        for name in used(&text) {
            if name != module && !may.contains(&name) {
                wrong.push(format!("src/{file} uses {name}, which {module} may not"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_is_a_module_and_every_permission_is_needed() {
    let table = allowed(&fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md")).expect("ARCHITECTURE.md"));
    let mut really = Table::new();
    for (file, text) in code() {
        really.entry(module(&file).to_owned()).or_default().extend(used(&text));
    }
    for (module, may) in &table {
        let uses = really.get(module).unwrap_or_else(|| panic!("ARCHITECTURE.md tells of {module}, which isn't there"));
        let idle: Vec<_> = may.difference(uses).collect();
        assert!(
            module == "daemon" || idle.is_empty(),
            "{module} may use {idle:?} and doesn't: take it out of the table"
        );
    }
}

#[test]
fn fuse_is_spoken_in_one_place() {
    let speaks: Vec<String> =
        code().into_iter().filter(|(_, text)| text.contains("fuser::")).map(|(file, _)| file).collect();
    assert!(speaks.iter().all(|file| ["fs/fuse.rs", "fs/mounting.rs"].contains(&file.as_str())), "{speaks:?}");
}

#[test]
fn uses_are_found() {
    let code =
        "use crate::{\n    a::{b, c},\n    d,\n};\nlet x = crate::e::f();\n// crate::g\n#[cfg(test)]\nuse crate::h;";
    assert_eq!(used(code).into_iter().collect::<Vec<_>>(), ["a", "d", "e"]);
}
