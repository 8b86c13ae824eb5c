//! The examples as built programs: `cargo test` builds them, beside the directory of the test's own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    env,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
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
    let program = command.spawn().unwrap();
    let id = program.id().to_string();
    let (sender, receiver) = mpsc::channel();
    // Both pipes are read meanwhile, so that no long output stops the program.
    thread::spawn(move || sender.send(program.wait_with_output().unwrap()));
    receiver.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| {
        Command::new("kill").args(["-KILL", &id]).status().unwrap();
        panic!("not done in a minute: {:?}", receiver.recv().unwrap());
    })
}
