//! The programs: their output, their flags, and their end.
#![cfg(unix)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};

use azure_dps_emulator::{Config, Operation, Script};
use reqwest::{Certificate, blocking::Client};
use serde_json::{Value, json};
use support::{DPS, program::Program, *};

const WEBHOOK: &str = env!("CARGO_BIN_EXE_contoso-webhook");

fn device(url: &str, id: &str) -> Device {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Device {
        client: Client::builder().no_proxy().build().unwrap(),
        url: url.to_owned(),
        registration_id: id.to_owned(),
        key: derive(GROUP_KEY, id),
        payload: None,
    }
}

/// "When it listens it prints one line for each listener". Without arguments, it is the tutorial's set-up over HTTP.
/// The log has the device, the outcome and the answer of the webhook, and never a key.
#[test]
fn without_arguments_it_is_the_tutorials_service() {
    let mut program = Program::start(&mut Command::new(DPS));
    let line = program.line();
    let url = line.strip_prefix("listening on ").unwrap();
    assert!(url.starts_with("http://127.0.0.1:"));
    let toaster = device(url, TOASTER);
    assert_eq!(toaster.assigned()["assignedHub"], TOASTERS_HUB);
    device(url, "somebody-else").failed();
    let (status, log) = program.end("-INT");
    assert_eq!(status.code(), Some(0));
    for what in [
        format!("PUT  {TOASTER} -> 202 assigning"),
        format!("POST {TOASTER} -> 200 allocated {TOASTERS_HUB}"),
        format!("GET  {TOASTER} -> 200 assigned {TOASTERS_HUB}"),
        "?****): Unrecognized device registration.".into(),
        "ms, the built-in webhook, because no webhook_url is set: http://127.0.0.1:".into(),
        "failed 400207 Custom allocation failed with status code: 400".into(),
    ] {
        assert!(log.contains(&what), "{what}\n{log}");
    }
    for secret in [&toaster.key, "sig=", "code=", GROUP_KEY] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// "with `--json` that line is an object with "listener" and "url"": http, https, mqtt, mqtts, wss and control. Every
/// line of the log is an object, too. The CAs are written to the files of `--ca-out` and `--issuing-ca-out`.
#[test]
fn with_json_every_line_is_an_object() {
    let [ca, issuing_ca] = [(); 2].map(|()| tempfile::NamedTempFile::new().unwrap());
    let mut program = Program::start(
        Command::new(DPS)
            .args(["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--json"])
            .args(["--mqtt", "127.0.0.1:0", "--mqtts", "127.0.0.1:0"])
            .args(["--function-log", "--retry-after", "none", "--ca-out"])
            .arg(ca.path())
            .arg("--issuing-ca-out")
            .arg(issuing_ca.path()),
    );
    let listeners = ["http", "https", "mqtt", "mqtts", "wss", "control"];
    let [http, https, ..] = listeners.map(|listener| {
        let line = program.json();
        assert_eq!(line["listener"], listener);
        let scheme = if listener == "control" { "http" } else { listener };
        assert!(line["url"].as_str().unwrap().starts_with(&format!("{scheme}://")));
        line
    });
    let service = program.json()["service"]["connectionString"].as_str().unwrap().to_owned();
    assert!(https["url"].as_str().unwrap().ends_with(service.split([';', '=']).nth(1).unwrap()), "{service}");
    let mut device = device(https["url"].as_str().unwrap(), TOASTER);
    let ca = Certificate::from_pem(&fs::read(ca.path()).unwrap()).unwrap();
    assert_eq!(Certificate::from_pem_bundle(&fs::read(issuing_ca.path()).unwrap()).unwrap().len(), 2);
    device.client = Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
    assert!(!device.put().headers().contains_key("retry-after"));
    device.assigned();
    device.url = http["url"].as_str().unwrap().to_owned();
    device.assigned();
    let mut hostile = TcpStream::connect(device.url.strip_prefix("http://").unwrap()).unwrap();
    hostile.write_all("GET /\u{9b}31m HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".as_bytes()).unwrap();
    hostile.read_to_end(&mut vec![]).unwrap();
    let (status, log) = program.end("-TERM");
    assert_eq!(status.code(), Some(0));
    assert!(log.contains(r#""path":"/\u009b31m""#) && !log.contains('\u{9b}'));
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["request"]["registrationId"], TOASTER);
    assert!(lines.iter().any(|line| line["webhook"]["status"] == 200));
    assert!(lines.iter().any(|line| line["function"] == "Request.Body:..."));
}

/// `--config` and `--webhook`, with the other program as the webhook. The environment of both programs has the key,
/// and no log shows it.
#[test]
fn the_users_own_webhook_can_be_called() {
    let key = "a-function-key";
    let mut webhook =
        Program::start(Command::new(WEBHOOK).args(["--return-payload", "--by-model"]).env("CONTOSO_FUNCTION_KEY", key));
    let line = webhook.line();
    let url = line.strip_prefix("listening on ").unwrap();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dps-emulator.toml");
    let mut program = Program::start(
        Command::new(DPS).args(["--config", config]).env("DPS_EMULATOR_WEBHOOK", format!("{url}?code={key}")),
    );
    let line = program.line();
    let device = device(line.strip_prefix("listening on ").unwrap(), "any-device")
        .with_payload(json!({ "deviceModel": "contoso-hpsd-088" }));
    let state = device.assigned();
    assert_eq!(state["assignedHub"], HEATPUMPS_HUB);
    assert_eq!(state["payload"], json!({ "property1": "value1" }));
    let (_, log) = program.end("-TERM");
    let (status, function_log) = webhook.end("-TERM");
    assert_eq!(status.code(), Some(0));
    assert!(function_log.contains("[Information] C# HTTP trigger function processed a request."));
    assert!(log.contains("-> 200 allocated") && !log.contains("built-in"), "{log}");
    assert!(!format!("{log}{function_log}").contains(key));
}

/// "https://{your-function-app-name}.azurewebsites.net/api/{your-http-trigger}": a webhook over HTTPS, with the roots
/// that the environment names. Another emulator is the server here, because it has a certificate.
#[test]
fn a_webhook_behind_https_is_reached() {
    let function = builder(Config::contoso()).https("127.0.0.1:0").start().unwrap();
    let response = json!({ "iotHubHostName": HEATPUMPS_HUB }).to_string();
    function.script(Script::respond(Operation::Lookup, 200, &[], response));
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), function.ca_pem()).unwrap();
    let mut program = Program::start(
        Command::new(DPS)
            .args(["--webhook", &format!("{}/{SCOPE}/registrations/function", function.https_url().unwrap())])
            .env("SSL_CERT_FILE", ca.path()),
    );
    let line = program.line();
    let toaster = device(line.strip_prefix("listening on ").unwrap(), TOASTER);
    assert_eq!(toaster.assigned()["assignedHub"], HEATPUMPS_HUB);
    assert_eq!(function.requests()[0].listener, "https");
    assert_eq!(program.end("-TERM").0.code(), Some(0));
}

/// Each quota of `[behaviour]` has a flag with its name, which takes precedence over the file: a number, or `none`.
#[test]
fn quotas_are_set_by_flags() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let config = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dps-emulator.toml")).unwrap();
    write!(file, "{config}\nregistrations_per_minute = 0\npolls_before_result = 9\n").unwrap();
    let none = "--registrations-per-minute=none";
    for (flags, expected) in [
        (&["--registrations-per-minute", "1"][..], [202, 429, 202, 202]),
        (&[none, "--operations-per-minute", "1"], [202, 202, 202, 429]),
        (&[none, "--device-polls-per-10s", "1"], [202, 202, 202, 429]),
    ] {
        let mut program = Program::start(Command::new(DPS).arg("--config").arg(file.path()).args(flags));
        let line = program.line();
        let device = device(line.strip_prefix("listening on ").unwrap(), TOASTER);
        let (first, body) = answer(device.put());
        let operation_id = body["operationId"].as_str().unwrap();
        let second = device.put().status().as_u16();
        let polls = [(); 2].map(|()| device.get(operation_id).status().as_u16());
        assert_eq!([first, second, polls[0], polls[1]], expected, "{flags:?}");
    }
}

/// Settings that are probably a mistake have a warning at the start, after the listeners.
#[test]
fn a_service_without_hubs_has_a_warning() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "id_scope = '0ne00002193'").unwrap();
    for json in [false, true] {
        let mut command = Command::new(DPS);
        command.arg("--config").arg(file.path()).args(json.then_some("--json"));
        let mut program = Program::start(&mut command);
        program.line();
        let lines = program.end("-TERM").1;
        if json {
            // After the listener of the control API and the connection string.
            let warning: Value = serde_json::from_str(lines.lines().nth(2).unwrap()).unwrap();
            assert!(warning["warning"].as_str().unwrap().contains("no hub is linked"), "{lines}");
        } else {
            assert!(lines.contains(": warning: linked_hubs: no hub is linked"), "{lines}");
        }
    }
}

/// The control API is on by default, and its URL is in the last line. A token may be in a file or in the environment.
/// Without a token, other machines cannot use the API.
#[test]
fn the_program_has_a_control_api() {
    const TOKEN: &str = "sixteen-letters!";
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    let client = device("", TOASTER).client;
    for (arguments, variable, has_token) in [
        (vec![], None, false),
        (vec!["--control", "127.0.0.1:0"], None, false),
        (vec!["--control-token-file", file.path().to_str().unwrap()], None, true),
        (vec!["--control", "0.0.0.0:0"], Some(TOKEN), true),
    ] {
        let mut command = Command::new(DPS);
        command.args(&arguments).envs(variable.map(|token| ("DPS_EMULATOR_CONTROL_TOKEN", token)));
        let mut program = Program::start(&mut command);
        let line = (0..6).map(|_| program.line()).find(|line| line.starts_with("control page at ")).unwrap();
        let url = line["control page at ".len()..].trim_end_matches('/').replace("0.0.0.0", "127.0.0.1");
        let status = |token: Option<&str>| {
            let request = client.get(format!("{url}/_emulator/health"));
            let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
            request.send().unwrap().status().as_u16()
        };
        assert_eq!((status(None), status(Some(TOKEN))), (if has_token { 401 } else { 200 }, 200), "{arguments:?}");
        assert_eq!(client.get(&url).send().unwrap().status(), 200);
        let (end, rest) = program.end("-TERM");
        assert_eq!((end.code(), rest.contains(TOKEN)), (Some(0), false));
        assert_eq!(rest, "", "a line after the last one");
    }
    let mut program = Program::start(Command::new(DPS).args(["--control", "none"]));
    while !program.line().starts_with("Contoso webhook at ") {}
    assert_eq!(program.end("-TERM").1, "");
    for (arguments, token, words) in [
        (["--control", "0.0.0.0:0"], "", "set a token in DPS_EMULATOR_CONTROL_TOKEN or with --control-token-file"),
        (["--control", "127.0.0.1:0"], "short", "fewer than 16 characters"),
        (["--control-token-file", "/nowhere"], "", "/nowhere: No such file"),
        (["--control", "nowhere.invalid:0"], "", "--control: cannot listen on nowhere.invalid:0"),
    ] {
        let mut command = Command::new(DPS);
        command.args(arguments).envs((!token.is_empty()).then_some(("DPS_EMULATOR_CONTROL_TOKEN", token)));
        let output = command.output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(words) && (token.is_empty() || !errors.contains(token)), "{errors}");
    }
}

/// `--check-health` exits with 0 if the emulator is ready, and otherwise with 1 and the reason. It needs the token,
/// if there is one, and uses no proxy. The last `--control` counts, so that a container's can be changed.
#[test]
fn its_health_can_be_checked() {
    const TOKEN: (&str, &str) = ("DPS_EMULATOR_CONTROL_TOKEN", "sixteen-letters!");
    let check = |address: &str, token: Option<(&str, &str)>| {
        let mut command = Command::new(DPS);
        command.args(["--check-health", address]).envs(token).env("http_proxy", "http://proxy.invalid:3128");
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let healthy = (0, String::new());
    for token in [None, Some(TOKEN)] {
        let address = if token.is_some() { "0.0.0.0:0" } else { "127.0.0.1:0" };
        let mut command = Command::new(DPS);
        command.args(["--control", "none", "--control", address]).envs(token);
        let mut program = Program::start(&mut command);
        let line = (0..6).map(|_| program.line()).find(|line| line.starts_with("control page at ")).unwrap();
        let port = line.trim_end_matches('/').rsplit_once(':').unwrap().1;
        let [own, by_name] = ["127.0.0.1", "localhost"].map(|host| format!("{host}:{port}"));
        assert_eq!(check(&own, token), healthy);
        assert_eq!(check(&by_name, token), healthy);
        if token.is_some() {
            let (code, why) = check(&own, None);
            assert!(code == 1 && why.contains("not a healthy emulator: 401 Unauthorized"), "{code} {why}");
        }
        program.end("-TERM");
        let (code, why) = check(&own, token);
        assert!(code == 1 && why.contains("Connection refused") && !why.contains(TOKEN.1), "{code} {why}");
    }
    // Another program listens there, and closes the connection after its answer.
    for (answer, words) in [
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "healthy emulator: 503 Service Unavailable"),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "healthy emulator: 302 Found"),
        ("SSH-2.0-OpenSSH_9.9\r\n", "no answer from 127.0.0.1:"),
        ("", "no answer from 127.0.0.1:"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; 1024];
            let len = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..len]).into_owned()
        });
        let (code, why) = check(&address, None);
        assert!(code == 1 && why.contains(words), "{code} {why}");
        let request = other.join().unwrap();
        assert!(request.starts_with("GET /_emulator/health HTTP/1.1\r\n"), "{request}");
    }
}

/// A file can have a key.
#[test]
fn the_webhooks_key_may_be_in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "from-a-file\n").unwrap();
    let mut webhook = Program::start(Command::new(WEBHOOK).arg("--function-key-file").arg(file.path()));
    let line = webhook.line();
    let url = line.strip_prefix("listening on ").unwrap();
    let client = device(url, TOASTER).client;
    let status = |url: String| client.post(url).body("{}").send().unwrap().status().as_u16();
    assert_eq!((status(url.into()), status(format!("{url}?code=from-a-file"))), (401, 400));
}

/// The exit codes that `--help` lists, and the errors on standard error.
#[test]
fn exit_codes_name_the_fault() {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let bad = tempfile::NamedTempFile::new().unwrap();
    fs::write(bad.path(), "scope = 1").unwrap();
    let bad = bad.path().to_str().unwrap();
    for (arguments, code, why) in [
        (&["--http", "300.0.0.1:0"][..], 1, "cannot listen on 300.0.0.1:0"),
        (&["--ca-out", "/nowhere/ca.pem"], 1, "/nowhere/ca.pem"),
        (&["--tls-certificate", bad, "--tls-key", bad], 1, "certificates"),
        (&["--tls-certificate", bad], 2, "--tls-key"),
        (&["--what"], 2, "--what"),
        (&["--retry-after", "soon"], 2, "soon"),
        (&["--time-scale", "0"], 2, "time scale"),
        (&["--webhook", "127.0.0.1:7071/api"], 3, "does not begin with http:// or https://"),
        (&["--config", "/nowhere/dps.toml"], 3, "/nowhere/dps.toml"),
        (&["--config", bad], 3, ":1:1: error: scope: this key is unknown"),
    ] {
        let (got, stdout, stderr) = run(DPS, arguments);
        assert_eq!((got, stdout.as_str()), (code, ""), "{arguments:?}");
        assert!(stderr.contains(why), "{stderr}");
    }
    assert_eq!(run(WEBHOOK, &["--listen", "300.0.0.1:0"]).0, 1);
    assert_eq!(run(WEBHOOK, &["--listen", "7071"]).0, 2);
    assert_eq!(run(WEBHOOK, &["--what"]).0, 2);
    for program in [DPS, WEBHOOK] {
        let (code, help, _) = run(program, &["--help"]);
        assert!(code == 0 && help.contains("Examples:") && help.contains("Exit codes:"));
        let (code, version, _) = run(program, &["--version"]);
        assert!(code == 0 && version.contains(env!("CARGO_PKG_VERSION")));
    }
}

/// Every line of `--help` and `-h` fits 80 columns, on terminals of any width and in a pipe. Examples are not wrapped.
#[test]
fn help_fits_80_columns() {
    let mut examples = BTreeSet::new();
    for program in [DPS, WEBHOOK] {
        for (flag, columns) in [("--help", "80"), ("--help", "200"), ("-h", "80"), ("-h", "200"), ("--help", "")] {
            let output = Command::new(program).arg(flag).env("COLUMNS", columns).output().unwrap();
            let help = String::from_utf8(output.stdout).unwrap();
            let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
            assert_eq!(long, [""; 0], "{flag}, COLUMNS={columns}");
            examples.insert(help.split_once("Examples:").unwrap().1.to_owned());
        }
    }
    assert_eq!(examples.len(), 2, "each program has its own examples");
}

/// The README's table has every flag of `--help` and no other, with the same names for the values.
#[test]
fn the_readme_has_every_flag() {
    let help = |program| String::from_utf8(Command::new(program).arg("--help").output().unwrap().stdout).unwrap();
    let flags = |text: &str| -> BTreeSet<String> {
        // Examples are indented more, and are left out.
        let lines = text.lines().filter_map(|line| line.strip_prefix("      ")).filter(|line| line.starts_with("--"));
        let words = lines.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
        words
            .map(|words| match words[..] {
                [flag, value] if value.starts_with('<') => format!("{flag} {}", value.trim_matches(['<', '>'])),
                _ => words[0].to_owned(),
            })
            .collect()
    };
    let readme = include_str!("../README.md");
    let cells = readme.lines().filter(|line| line.starts_with("| `--")).filter_map(|line| line.split('|').nth(1));
    let listed: BTreeSet<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    assert_eq!(listed, flags(&help(DPS)));

    let (_, section) = readme.split_once("## Options of `contoso-webhook`").unwrap();
    let section = section.split("\n#").next().unwrap();
    let webhooks = flags(&help(WEBHOOK));
    for flag in section.split('`').skip(1).step_by(2).filter(|code| code.starts_with("--")) {
        assert!(webhooks.contains(flag), "{flag}: {webhooks:?}");
    }
}

/// Standard output may be closed.
#[test]
fn it_continues_if_the_reader_of_its_output_ends() {
    let mut program = Program::start(&mut Command::new(DPS));
    let line = program.line();
    let device = device(line.strip_prefix("listening on ").unwrap(), TOASTER);
    program.lines = BufReader::new({
        // Closes the only reading end of the pipe.
        let mut other = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
        other.wait().unwrap();
        other.stdout.take().unwrap()
    });
    for _ in 0..3 {
        device.assigned();
    }
    assert_eq!(program.end("-TERM").0.code(), Some(0));
}
