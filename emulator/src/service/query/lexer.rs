//! The tokens of a query.

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A keyword or a member, such as `enrollments.registrationId`.
    Word(String),
    Text(String),
    Number(f64),
    Symbol(&'static str),
}

/// Longer symbols come first.
const SYMBOLS: [&str; 12] = ["!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ","];

/// The tokens that have not been read yet. The next one is the last.
pub(super) struct Tokens(Vec<Token>);

impl Tokens {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let (token, length) = next(rest, first)?;
            tokens.push(token);
            rest = rest.get(length..).unwrap_or_default().trim_start();
        }
        tokens.reverse();
        Ok(Self(tokens))
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the next token if it is a text or a number.
    pub(super) fn next_value(&mut self) -> Option<Token> {
        self.0.pop_if(|next| matches!(next, Token::Text(_) | Token::Number(_)))
    }

    /// Takes the next token if it is this one.
    pub(super) fn take(&mut self, token: &Token) -> bool {
        self.0.pop_if(|next| next == token).is_some()
    }

    /// Takes the next token if it is this keyword.
    pub(super) fn take_word(&mut self, keyword: &str) -> bool {
        self.0.pop_if(|next| matches!(next, Token::Word(word) if word.eq_ignore_ascii_case(keyword))).is_some()
    }

    /// Takes the next token if it is a name.
    pub(super) fn word(&mut self) -> Option<String> {
        match self.0.pop_if(|next| matches!(next, Token::Word(_)))? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(super) fn expect(&mut self, symbol: &'static str) -> Result<(), String> {
        if self.take(&Token::Symbol(symbol)) {
            Ok(())
        } else {
            Err(format!("{symbol} is expected, not {}", self.here()))
        }
    }

    /// Returns the next token for an error message.
    pub(super) fn here(&self) -> String {
        match self.0.last() {
            None => "the end".to_owned(),
            Some(Token::Word(text) | Token::Text(text)) => format!("{:?}", text.chars().take(100).collect::<String>()),
            Some(Token::Number(number)) => format!("\"{number}\""),
            Some(Token::Symbol(symbol)) => format!("{symbol:?}"),
        }
    }
}

/// Returns the first token of a text and its length.
fn next(text: &str, first: char) -> Result<(Token, usize), String> {
    if matches!(first, '\'' | '"') {
        return quoted(text, first);
    }
    if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| text.starts_with(symbol)) {
        return Ok((Token::Symbol(symbol), symbol.len()));
    }
    if first == '*' {
        return Ok((Token::Symbol("*"), 1));
    }
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | '$' | '#');
    let length = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let word = text.get(..length).unwrap_or_default();
    if word.is_empty() {
        return Err(format!("\"{first}\" is not supported"));
    }
    if first.is_ascii_digit() || matches!(first, '-' | '+' | '.') {
        let number = word.parse().ok().filter(|number: &f64| number.is_finite());
        return Ok((Token::Number(number.ok_or_else(|| format!("{word:?} is not a number"))?), length));
    }
    Ok((Token::Word(word.to_owned()), length))
}

/// Reads a text in quotes. Two quotes stand for one quote, and a backslash for the character after it.
fn quoted(text: &str, quote: char) -> Result<(Token, usize), String> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            if chars.next_if(|(_, next)| *next == quote).is_none() {
                return Ok((Token::Text(value), at + quote.len_utf8()));
            }
            value.push(quote);
        } else if c == '\\' {
            value.extend(chars.next().map(|(_, escaped)| escaped));
        } else {
            value.push(c);
        }
    }
    Err("a string has no closing quote".to_owned())
}
