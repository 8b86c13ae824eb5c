//! The compiled examples. `cargo test` builds them next to the directory of the test.
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

/// Returns the path of the emulator's program, which `cargo test` also builds.
pub fn dps_emulator() -> PathBuf {
    let path = example("gateway").parent().unwrap().with_file_name("dps-emulator");
    let path = path.with_extension(env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is missing: cargo build -p azure-dps-emulator", path.display());
    path
}

/// Runs the program to its end. Fails after a minute.
pub fn output_of(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.spawn().unwrap();
    let id = program.id().to_string();
    let (sender, receiver) = mpsc::channel();
    // Both pipes are read at the same time, so that long output does not block the program.
    thread::spawn(move || sender.send(program.wait_with_output().unwrap()));
    receiver.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| {
        Command::new("kill").args(["-KILL", &id]).status().unwrap();
        panic!("not done in a minute: {:?}", receiver.recv().unwrap());
    })
}
