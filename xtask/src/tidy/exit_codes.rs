//! Rule for exit codes: each that is declared, and so in the reference, is one that the program ends with.
//!
//! rustc reports no unused variant of an enum that a macro of another crate defines.

use crate::source::{SourceFile, Token};

/// Checks every table of exit codes.
pub(super) fn check(files: &[SourceFile], findings: &mut Vec<String>) {
    for file in files {
        let Some((codes, variants)) = declared(&file.tokens) else {
            continue;
        };
        for variant in variants {
            let uses = |other: &SourceFile| {
                other.crate_name() == file.crate_name() && names(&other.tokens, codes, variant)
            };
            if !files.iter().any(uses) {
                findings.push(format!("{}: no error has exit code `{variant}`", file.path));
            }
        }
    }
}

/// Returns the name and the variants of the enum in `declare_exit_codes!`.
fn declared(tokens: &[Token]) -> Option<(&str, Vec<&str>)> {
    let is_call = |pair: &[Token]| matches!(pair, [Token::Ident(name), Token::Punct('!')] if name == "declare_exit_codes");
    let start = tokens.windows(2).position(is_call)?;
    let mut rest = tokens.iter().skip(start);
    rest.find(|token| token.ident() == Some("enum"))?;
    let codes = rest.next()?.ident()?;
    let rest: Vec<&Token> = rest
        .take_while(|token| !matches!(token, Token::Close(_)))
        .collect();
    let variants = rest.windows(2).filter_map(|pair| match pair {
        [Token::Ident(variant), Token::Punct('=')] => Some(variant.as_str()),
        _ => None,
    });
    Some((codes, variants.collect()))
}

/// Returns whether the tokens contain `codes::variant`.
fn names(tokens: &[Token], codes: &str, variant: &str) -> bool {
    tokens.windows(4).any(|path| {
        matches!(
            path,
            [Token::Ident(first), Token::Punct(':'), Token::Punct(':'), Token::Ident(last)]
                if first == codes && last == variant
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::planted::files;
    use super::check;

    #[test]
    fn code_that_no_error_has_then_found() {
        let table = "declare_exit_codes! { pub(crate) enum Codes { A = 1, \"a\", \"b\"; B = 2, \"a\", \"b\"; } }";
        let files = files([
            ("api/src/exit_code.rs", table),
            ("api/src/error.rs", "fn code() { Codes::A }"),
            ("lab/src/error.rs", "fn code() { Codes::B }"),
        ]);
        let mut findings = Vec::new();
        check(&files, &mut findings);
        assert_eq!(
            findings,
            ["api/src/exit_code.rs: no error has exit code `B`"]
        );
    }
}
