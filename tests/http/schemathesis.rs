//! Checks the server against its description with an independent tool: schemathesis, where `scripts/setup test` could
//! install it.

use std::{path::Path, process::Command};

use crate::{
    client::get,
    stage::{Stage, TOKEN, quiet},
};

#[test]
fn a_foreign_checker_finds_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/tools/schemathesis/bin/schemathesis");
    if !program.exists() {
        eprintln!("skipped: {} is not there; scripts/setup test installs it", program.display());
        return;
    }
    for token in [None, Some(TOKEN)] {
        let stage = Stage::with(quiet(), token);
        let scratch = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(&program);
        command.current_dir(&scratch).env_remove("http_proxy").env_remove("HTTP_PROXY").env("NO_PROXY", "*");
        command.args(["run", "--checks", "all", "--max-examples", "20", "--seed", "1", "--no-color"]);
        command.args(["--url", &format!("http://{}", stage.address)]);
        if let Some(token) = token {
            command.args(["--header", &format!("Authorization: Bearer {token}")]);
        }
        let done = command.arg(root.join("doc/openapi.yaml")).output().expect("run");
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
        assert!(said.contains("passed"), "{said}");
        let after = get(stage.address, "/health").status;
        assert_eq!(after, if token.is_some() { 401 } else { 200 });
    }
}
