//! The examples as built programs: `cargo test` builds them, beside the directory of the test's own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    env,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

pub fn example(name: &str) -> PathBuf {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.extend(["examples", name]);
    path.set_extension(env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is missing: cargo build --example {name}", path.display());
    path
}

/// The emulator's program, which `cargo test` builds as well.
pub fn dps_emulator() -> PathBuf {
    let path = example("gateway").parent().unwrap().with_file_name("dps-emulator");
    let path = path.with_extension(env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is missing: cargo build -p azure-dps-emulator", path.display());
    path
}

/// Runs it to its end, which must come within a minute.
pub fn output_of(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = command.spawn().unwrap();
    let begun = Instant::now();
    while program.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            program.kill().unwrap();
            panic!("not done in a minute: {:?}", program.wait_with_output().unwrap());
        }
        thread::sleep(Duration::from_millis(10));
    }
    program.wait_with_output().unwrap()
}
