//! Lists the rules files of `src/rules/built_in/`, so that an agent CLI is added by its file alone.

use std::{env, fs, path::Path};

fn main() {
    let dir = Path::new("src/rules/built_in");
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("the rules").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let rows = files.iter().map(|file| {
        let whole = fs::canonicalize(file).expect("a file");
        format!("    ({:?}, include_str!({whole:?})),\n", file.file_stem().expect("a name").to_string_lossy())
    });
    let list = format!("[\n{}]\n", rows.collect::<String>());
    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets it")).join("built_in.rs");
    fs::write(out, list).expect("written");
}
