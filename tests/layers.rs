//! Enforces the layers of ARCHITECTURE.md: resolves every path in the source to its file and checks it.
//! Three rules without named exceptions: no use from above, from the side or past a trait; no circle of files;
//! `unsafe` only in `linux`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Modules of each layer; a module may use the layers below its own, and itself.
const LAYERS: [&[&str]; 9] = [
    &["model", "rules", "config", "render"],
    &["linux"],
    &["ports"],
    &["hook"],
    &["sys", "agents", "demo_agent", "command_agent", "repeater"],
    &["live"],
    &["queue", "dispatcher", "session", "watcher", "quota", "switcher", "delegate", "notify", "janitor"],
    &["fs", "cli", "http"],
    &["daemon", "contract"],
];
const WORDS: usize = 0;
const PORTS: usize = 2;
const EDGES: [usize; 2] = [3, 4];
const OWNER: usize = 5;
const SERVICES: usize = 6;
const FACES: usize = 7;
const ROOT: usize = 8;

/// Files of services that decide: pure, so that they can be tested without a world.
const DECIDING: [&str; 8] =
    ["decide.rs", "resume.rs", "step.rs", "classify.rs", "ready.rs", "over.rs", "shown.rs", "history.rs"];

fn layer(module: &str) -> usize {
    LAYERS.iter().position(|modules| modules.contains(&module)).unwrap_or_else(|| {
        panic!("module {module} stands in no layer: put it into the table of tests/layers.rs and of ARCHITECTURE.md")
    })
}

/// A path as a list of names.
type Names = Vec<String>;

fn names(path: &str) -> Names {
    path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// One file of the library.
struct Source {
    path: PathBuf,
    module: Names,
    /// Without comments and test modules: those may use what they like.
    code: String,
    /// What `use` brings in, each from the library's root, and whether others get it from here.
    uses: Vec<(Names, String, bool)>,
}

impl Source {
    fn new(path: PathBuf, text: &str) -> Self {
        let mut module: Names = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        match module.pop().as_deref().and_then(|name| name.strip_suffix(".rs")) {
            None | Some("mod" | "lib") => {}
            Some(name) => module.push(name.to_owned()),
        }
        let code = code(text);
        let mut uses = Vec::new();
        for statement in statements(&code) {
            let (public, tree) = statement.split_once("use ").unwrap_or_default();
            let mut found = Vec::new();
            open(tree, "", &mut found);
            uses.extend(found.into_iter().filter_map(|(path, known_as)| {
                let names = absolute(&module, &names(&path), &code)?;
                Some((names, known_as, !public.trim().is_empty()))
            }));
        }
        Self { path, module, code, uses }
    }

    /// Every path of the library that the file speaks of.
    fn paths(&self) -> BTreeSet<Names> {
        let body = body(&self.code);
        let speaks_of = |name: &str| body.split(|c: char| !is_word(c)).any(|word| word == name);
        // A name that is merely handed on is not used here.
        let used = self.uses.iter().filter(|(_, known_as, public)| !public || speaks_of(known_as));
        let mut found: BTreeSet<Names> = used.map(|(names, ..)| names.clone()).collect();
        for (at, _) in body.match_indices("::") {
            let begin = body[..at].rfind(|c: char| !is_word(c) && c != ':').map_or(0, |before| before + 1);
            let end = body[at..].find(|c: char| !is_word(c) && c != ':').map_or(body.len(), |length| at + length);
            found.extend(absolute(&self.module, &names(&body[begin..end]), &self.code));
        }
        found
    }

    fn declares(&self, name: &str) -> bool {
        ["struct ", "enum "].iter().any(|kind| {
            let wanted = format!("{kind}{name}");
            let mut places = self.code.match_indices(&wanted).map(|(at, found)| at + found.len());
            places.any(|end| !self.code[end..].starts_with(is_word))
        })
    }

    /// Types that it has an `impl` of.
    fn impls(&self) -> BTreeSet<&str> {
        let blocks = self.code.lines().filter_map(|line| line.strip_prefix("impl"));
        let of = blocks.filter_map(|head| {
            let head = head.split('{').next()?;
            let of = head.rsplit(" for ").next()?.trim();
            let of = if head.starts_with('<') && !head.contains(" for ") { of.split_once("> ")?.1 } else { of };
            Some(of.split(|c: char| !is_word(c)).next().unwrap_or_default())
        });
        of.filter(|name| !name.is_empty()).collect()
    }

    /// Whether all that it says of a module is the names of functions in a table, which is a `const` or `static`.
    fn names_in_tables_only(&self, module: &str) -> bool {
        let body = body(&self.code);
        let mut tables = String::new();
        let mut inside = false;
        for line in body.lines() {
            let head = line.trim_start_matches("pub(super) ").trim_start_matches("pub ");
            inside |= (head.starts_with("const ") && !head.starts_with("const fn")) || head.starts_with("static ");
            if inside {
                tables.push_str(line);
                tables.push('\n');
            }
            inside &= !line.trim_end().ends_with(';') || line.starts_with(' ');
        }
        let wanted = format!("{module}::");
        let count = |text: &str| {
            text.match_indices(&wanted)
                .filter(|(at, _)| !text[..*at].ends_with(|c: char| is_word(c) || c == ':'))
                .count()
        };
        let functions = tables
            .match_indices(&wanted)
            .all(|(at, found)| tables[at + found.len()..].starts_with(|c: char| c.is_ascii_lowercase()));
        count(body.as_str()) > 0 && count(&tables) == count(&body) && functions
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The code without its `use` statements.
fn body(code: &str) -> String {
    statements(code).into_iter().fold(code.to_owned(), |code, statement| code.replacen(statement, "", 1))
}

/// The `use` statements, each with what stands before the word.
fn statements(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in code.split_inclusive('\n') {
        let head = line.trim_start();
        if head.starts_with("use ")
            || head.starts_with("pub")
                && head.split_once("use ").is_some_and(|(vis, _)| {
                    vis.trim_end().chars().all(|c| is_word(c) || matches!(c, '(' | ')' | ':' | ' '))
                        && !vis.trim_end().contains("fn")
                })
        {
            let end = code[at..].find(';').map_or(code.len(), |length| at + length);
            found.push(code[at..end].trim_start());
        }
        at += line.len();
    }
    found
}

/// The same path from the library's root; `None` for somebody else's.
fn absolute(module: &[String], path: &[String], code: &str) -> Option<Names> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let mut up = module.to_vec();
            let mut rest = path;
            while let Some(("super", after)) = rest.split_first().map(|(first, after)| (first.as_str(), after)) {
                up.pop();
                rest = after;
            }
            Some([up, rest.to_vec()].concat())
        }
        child => {
            let declared = code.lines().any(|line| {
                let rest = line.trim_start_matches("pub").trim_start_matches("(crate)").trim_start_matches("(super)");
                rest.trim_start().strip_prefix("mod ").is_some_and(|name| name.trim_end() == format!("{child};"))
            });
            declared.then(|| [module, path].concat())
        }
    }
}

/// Reads one path or group of a `use`; answers what follows it. Each path comes with the name under which it is known.
fn open<'a>(mut rest: &'a str, before: &str, found: &mut Vec<(String, String)>) -> &'a str {
    let mut path = before.to_owned();
    loop {
        rest = rest.trim_start();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner.trim_start();
            while !rest.starts_with('}') && !rest.is_empty() {
                let after = open(rest, &path, found).trim_start();
                let after = after.strip_prefix(',').unwrap_or(after).trim_start();
                // Text that only looks like a `use`.
                if after.len() == rest.len() {
                    return "";
                }
                rest = after;
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|c: char| !(is_word(c) || c == '*')).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        path.push_str(&rest[..end]);
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(next) => {
                path.push_str("::");
                rest = next;
            }
            None => break,
        }
    }
    let path = path.strip_suffix("::self").unwrap_or(&path).to_owned();
    let mut known_as = path.rsplit("::").next().unwrap_or_default().to_owned();
    if let Some(renamed) = rest.trim_start().strip_prefix("as ") {
        let end = renamed.find(|c: char| !is_word(c)).unwrap_or(renamed.len());
        renamed[..end].clone_into(&mut known_as);
        rest = &renamed[end..];
    }
    found.push((path, known_as));
    rest
}

/// The whole library.
struct Library {
    sources: Vec<Source>,
    by_module: BTreeMap<Names, usize>,
}

impl Library {
    fn of(sources: Vec<Source>) -> Self {
        let by_module = sources.iter().enumerate().map(|(n, source)| (source.module.clone(), n)).collect();
        Self { sources, by_module }
    }

    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        gather(&root, &mut files);
        files.sort();
        assert!(files.len() > 200, "only {} sources found under {}", files.len(), root.display());
        let inside = |file: &PathBuf| file.strip_prefix(&root).expect("a file under src").to_owned();
        let is_program = |path: &Path| path == Path::new("main.rs") || path.starts_with("bin");
        let library = files.iter().filter(|file| !is_program(&inside(file)));
        Self::of(library.map(|file| Source::new(inside(file), &fs::read_to_string(file).expect("a source"))).collect())
    }

    /// The file that a path means, also where another module hands it on.
    fn file(&self, path: &[String], hops: usize) -> Option<usize> {
        let (length, n) = (1..=path.len()).rev().find_map(|k| Some((k, *self.by_module.get(&path[..k])?)))?;
        let item = path.get(length);
        let handed = |name: &String| {
            let of = &self.sources[n];
            of.uses.iter().find(|(names, known_as, public)| *public && known_as == name && names != path)
        };
        match item.and_then(handed).filter(|_| hops > 0) {
            Some((names, ..)) => self.file(&[names, &path[length + 1..]].concat(), hops - 1).or(Some(n)),
            None => Some(n),
        }
    }

    /// Which files each file uses. A file with an `impl` of a type is a part of that type's file, and a table of functions does not
    /// call them: neither makes a circle.
    fn arrows(&self) -> Vec<BTreeSet<usize>> {
        let of = |n: usize| {
            let source = &self.sources[n];
            let used: BTreeSet<usize> = source.paths().iter().filter_map(|path| self.file(path, 4)).collect();
            let counts = |to: &usize| {
                let other = &self.sources[*to];
                let part_of = source.impls().iter().any(|name| other.declares(name));
                let listed = other.module.last().is_some_and(|name| source.names_in_tables_only(name));
                *to != n && !part_of && !listed
            };
            used.into_iter().filter(counts).collect()
        };
        (0..self.sources.len()).map(of).collect()
    }

    fn circles(&self) -> Vec<String> {
        let arrows = self.arrows();
        let name = |n: &usize| self.sources[*n].path.display().to_string();
        let shown = |circle: Vec<usize>| {
            let inside = |n: &usize| arrows[*n].iter().filter(|to| circle.contains(to)).map(name).collect::<Vec<_>>();
            let lines = circle.iter().map(|n| format!("{} uses {}", name(n), inside(n).join(", ")));
            lines.collect::<Vec<_>>().join("\n    ")
        };
        connected(&arrows).into_iter().filter(|circle| circle.len() > 1).map(shown).collect()
    }
}

fn gather(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            gather(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Strongly connected groups (Tarjan).
fn connected(arrows: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    struct Walk<'a> {
        arrows: &'a [BTreeSet<usize>],
        order: Vec<Option<usize>>,
        low: Vec<usize>,
        stack: Vec<usize>,
        next: usize,
        found: Vec<Vec<usize>>,
    }
    impl Walk<'_> {
        fn visit(&mut self, at: usize) {
            self.order[at] = Some(self.next);
            self.low[at] = self.next;
            self.next += 1;
            self.stack.push(at);
            for to in self.arrows[at].clone() {
                match self.order[to] {
                    None => {
                        self.visit(to);
                        self.low[at] = self.low[at].min(self.low[to]);
                    }
                    Some(order) if self.stack.contains(&to) => self.low[at] = self.low[at].min(order),
                    Some(_) => {}
                }
            }
            if Some(self.low[at]) == self.order[at] {
                let begin = self.stack.iter().position(|n| *n == at).expect("it is on the stack");
                self.found.push(self.stack.split_off(begin));
            }
        }
    }
    let length = arrows.len();
    let mut walk =
        Walk { arrows, order: vec![None; length], low: vec![0; length], stack: Vec::new(), next: 0, found: Vec::new() };
    for at in 0..length {
        if walk.order[at].is_none() {
            walk.visit(at);
        }
    }
    walk.found
}

fn library(files: &[(&str, &str)]) -> Library {
    Library::of(files.iter().map(|(path, text)| Source::new(PathBuf::from(path), text)).collect())
}

#[test]
fn paths_are_read_whole() {
    let text = "use crate::{a::{b, c::D as E}, ports::Exit};\nmod child;\npub(super) use self::child::X;\n\
        fn f() { let x = crate::f::g(); child::y(super::z::Z::NEW); }\n// crate::not\n";
    let source = Source::new(PathBuf::from("one/two.rs"), text);
    let found: Vec<String> = source.paths().iter().map(|names| names.join("::")).collect();
    assert_eq!(found, ["a::b", "a::c::D", "f::g", "one::two::child::y", "one::z::Z::NEW", "ports::Exit"]);
}

#[test]
fn circles_are_found_and_parts_and_tables_are_none() {
    let a = "pub mod b;\npub mod c;\npub struct A;\n";
    let two = [("a/mod.rs", a), ("a/b.rs", "use super::c::f;\npub fn g() {}\n"), ("a/c.rs", "use crate::a::b::g;\n")];
    assert_eq!(library(&two).circles().len(), 1);
    let handed = [("a/mod.rs", "mod b;\npub mod c;\npub use b::g;\n"), two[1], ("a/c.rs", "use crate::a::g;\n")];
    assert_eq!(library(&handed).circles().len(), 1, "a name that is handed on means the file that it is from");
    let part = [("a/mod.rs", "mod b;\npub struct A;\nfn f() { b::g() }\n"), ("a/b.rs", "use super::A;\nimpl A {}\n")];
    assert!(library(&part).circles().is_empty());
    let whole = [part[0], ("a/b.rs", "use super::A;\nfn g(_: A) {}\n")];
    assert_eq!(library(&whole).circles().len(), 1);
    let table = "use super::c;\npub struct Row;\npub const ROWS: [fn(); 1] = [\n    c::f,\n];\n";
    let listed = [("a/b.rs", table), ("a/c.rs", "use super::b::Row;\npub fn f() {}\n")];
    assert!(library(&listed).circles().is_empty());
    let called = [("a/b.rs", &*format!("{table}fn g() {{ c::f() }}\n")), listed[1]];
    assert_eq!(library(&called).circles().len(), 1);
}

#[test]
fn there_is_no_circle_of_files() {
    let library = Library::read();
    let weighed: usize = library.arrows().iter().map(BTreeSet::len).sum();
    assert!(weighed > 500, "only {weighed} arrows were found: the reader of this test is broken");
    let circles = library.circles();
    assert!(circles.is_empty(), "{} circles of files:\n  {}", circles.len(), circles.join("\n  "));
}

#[test]
fn every_module_uses_only_what_is_below_it() {
    let library = Library::read();
    let mut wrong = Vec::new();
    let mut weighed = 0;
    for source in &library.sources {
        let Some(first) = source.module.first() else { continue };
        let own = layer(first);
        let file = source.path.file_name().expect("a name").to_string_lossy();
        let decides = own == SERVICES && DECIDING.contains(&&*file);
        for path in source.paths() {
            let Some(used) = path.first().filter(|used| *used != first) else { continue };
            weighed += 1;
            let theirs = layer(used);
            let sideways = theirs == own && ![WORDS, ROOT].contains(&own);
            let edge = own > EDGES[1] && own != ROOT && EDGES.contains(&theirs);
            let impure = decides && theirs > WORDS;
            // A face asks through a trait of its own; the daemon joins it to the owner.
            let past = own == FACES && [OWNER, SERVICES].contains(&theirs);
            if theirs > own || sideways || edge || impure || past {
                wrong.push(format!("{}: crate::{}", source.path.display(), path.join("::")));
            }
        }
    }
    assert!(weighed > 500, "only {weighed} paths were weighed: the reader of this test is broken");
    assert!(wrong.is_empty(), "paths against the layers of ARCHITECTURE.md:\n  {}", wrong.join("\n  "));
}

#[test]
fn ports_are_traits_only() {
    let library = Library::read();
    let ports =
        library.sources.iter().filter(|source| source.module.first().is_some_and(|first| layer(first) == PORTS));
    let declares = |line: &&str| {
        ["struct ", "enum ", "const ", "static "].iter().any(|word| line.contains(&format!("pub {word}")))
    };
    let words: Vec<&str> = ports.flat_map(|source| source.code.lines()).filter(declares).collect();
    assert!(words.is_empty(), "words belong into `model`:\n  {}", words.join("\n  "));
}

/// A CLI is its rules file. The names of two are defaults of the configuration; nothing else says one.
#[test]
fn no_code_knows_a_cli_by_its_name() {
    let quoted =
        ["claude", "codex", "opencode", "qwen", "Claude Code", "Codex", "Gemini CLI"].map(|cli| format!("{cli:?}"));
    let library = Library::read();
    let names = |source: &&Source| quoted.iter().any(|name| source.code.contains(name));
    let found: Vec<&PathBuf> = library.sources.iter().filter(names).map(|source| &source.path).collect();
    // The second file is tests alone.
    assert_eq!(found, [Path::new("config/schema.rs"), Path::new("notify/decide/tests.rs")]);
}

#[test]
fn unsafe_is_in_linux_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    gather(&root, &mut files);
    let has = |file: &&PathBuf| {
        let text = fs::read_to_string(file).expect("a source");
        code(&text).split(|c: char| !is_word(c)).any(|word| word == "unsafe")
    };
    let (inside, outside): (Vec<_>, Vec<_>) =
        files.iter().filter(has).partition(|file| file.starts_with(root.join("linux")));
    assert!(!inside.is_empty(), "the reader of this test is broken");
    assert!(outside.is_empty(), "`unsafe` outside of `linux`: {outside:?}");
}
