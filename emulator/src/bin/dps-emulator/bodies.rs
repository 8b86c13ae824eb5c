//! `--verbose`: the bodies below the line of their request or call.

use azure_dps_emulator::{Event, console::printable};
use serde::de::IgnoredAny;

use crate::colour::Paint;

const TITLE: &str = "    ";
const BODY: &str = "      ";
/// Deeper levels get no more indentation. Otherwise a body of brackets would become gigabytes of white space.
const DEEPEST: usize = 32;

/// Appends the bodies of an event, each below its title. Empty ones are left out.
pub(crate) fn append(lines: &mut String, event: &Event, paint: Paint) {
    let bodies = match event {
        // A notification of the hub has no request.
        Event::Request(record) if record.hub.is_some() && record.method == "NOTIFY" => {
            [("request", &record.body), ("sent to the device", &record.response_body)]
        }
        Event::Request(record) => [("request", &record.body), ("answer", &record.response_body)],
        Event::Webhook(call) => [("AllocationRequest", &call.request_body), ("webhook's answer", &call.response_body)],
        _ => return,
    };
    for (title, body) in bodies {
        if !body.is_empty() {
            lines.push_str(&format!("\n{TITLE}{}\n", paint.aside(&format!("{title}:"))));
            lines.push_str(&indented(body));
        }
    }
}

/// Returns JSON indented, with numbers as sent. Other text keeps its lines.
fn indented(body: &str) -> String {
    if serde_json::from_str::<IgnoredAny>(body).is_ok() {
        return json(body);
    }
    let lines: Vec<_> = body.lines().map(|line| format!("{BODY}{}", printable(line))).collect();
    lines.join("\n")
}

/// Returns well-formed JSON with new white space. Characters that control a terminal become JSON escapes.
fn json(text: &str) -> String {
    let mut lines = BODY.to_owned();
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let mut chars = text.chars().peekable();
    let new_line = |lines: &mut String, depth: usize| {
        lines.push('\n');
        lines.push_str(BODY);
        lines.push_str(&"  ".repeat(depth.min(DEEPEST)));
    };
    while let Some(c) = chars.next() {
        if in_string {
            push(&mut lines, c);
            in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            ' ' | '\t' | '\n' | '\r' => {}
            '{' | '[' => {
                lines.push(c);
                while chars.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    lines.push(end);
                } else {
                    depth += 1;
                    new_line(&mut lines, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut lines, depth);
                lines.push(c);
            }
            ',' => {
                lines.push(c);
                new_line(&mut lines, depth);
            }
            ':' => lines.push_str(": "),
            _ => {
                in_string = c == '"';
                lines.push(c);
            }
        }
    }
    lines
}

fn push(lines: &mut String, c: char) {
    if c.is_ascii_graphic() || c == ' ' || printable(c.encode_utf8(&mut [0; 4])).chars().eq([c]) {
        lines.push(c);
    } else {
        for unit in c.encode_utf16(&mut [0; 2]) {
            lines.push_str(&format!("\\u{unit:04x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines equal serde_json's pretty form for any white space in the input.
    #[test]
    fn json_is_indented() {
        for text in [
            r#"{"a":[1,{"b":"x, y: {\"z\\"},null],"c":{},"d":[ ],"":"\\"}"#,
            "[[[]],\t{ \"k\" :\r\n true } ]",
            "\"text\"",
            "12",
            " { } ",
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let expected: Vec<_> = pretty.lines().map(|line| format!("{BODY}{line}")).collect();
            assert_eq!(indented(text), expected.join("\n"));
        }
    }

    /// Numbers, escapes and duplicate members stay as sent. Invisible characters are escaped.
    #[test]
    fn json_is_printed_as_sent() {
        let number = "12345678901234567890.123456789012345678901234567890";
        assert_eq!(indented(number), format!("{BODY}{number}"));
        assert_eq!(indented(r#"{"a":1,"a":"\u00e9é\/"}"#).lines().nth(2).unwrap().trim(), r#""a": "\u00e9é\/""#);
        let steering = indented("[\"\u{9b}31m\u{202e}\u{e0001}\"]");
        assert_eq!(steering.lines().nth(1).unwrap().trim(), r#""\u009b31m\u202e\udb40\udc01""#);
    }

    /// Text that is not JSON keeps its lines, and cannot control a terminal.
    #[test]
    fn other_text_keeps_its_lines() {
        let deep = indented(&("[".repeat(20_000) + &"]".repeat(20_000)));
        assert!(deep.len() < 40_000 * (2 * DEEPEST + 10), "{}", deep.len());
        assert_eq!(indented("oops:\n\x1b[2J {"), format!("{BODY}oops:\n{BODY}\\u{{1b}}[2J {{"));
    }
}
