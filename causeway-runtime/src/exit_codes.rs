//! Declarations of exit codes: one table per program, which is their reference.

use crate::markdown::table;

/// Declaration of an exit code.
#[derive(Debug)]
pub struct ExitCodeDeclaration {
    /// The code, which is never reused.
    pub code: u8,
    /// Cause.
    pub cause: &'static str,
    /// Remedy.
    pub remedy: &'static str,
}

/// Declarations of a program's exit codes.
#[derive(Debug)]
pub struct DeclaredExitCodes {
    /// Text above the table.
    pub introduction: &'static str,
    /// The codes.
    pub codes: &'static [ExitCodeDeclaration],
}

impl DeclaredExitCodes {
    pub(crate) fn table(&self) -> String {
        let rows = self.codes.iter().map(|declared| {
            [
                declared.code.to_string(),
                declared.cause.to_owned(),
                declared.remedy.to_owned(),
            ]
        });
        table(["code", "cause", "remedy"], rows)
    }
}

/// Declares a program's exit codes: `Name = code, "cause", "remedy";`. The compiler rejects a code that is
/// declared twice, and `cargo xtask tidy` one that no error has.
#[macro_export]
macro_rules! declare_exit_codes {
    (
        $(#[doc = $introduction:literal])*
        $visibility:vis enum $codes:ident {
            $($name:ident = $code:literal, $cause:literal, $remedy:literal;)*
        }
    ) => {
        $(#[doc = $introduction])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        $visibility enum $codes {
            $(#[doc = $cause] $name = $code,)*
        }

        impl $codes {
            /// Declarations, for the reference.
            $visibility const DECLARED: $crate::exit_codes::DeclaredExitCodes =
                $crate::exit_codes::DeclaredExitCodes {
                    introduction: concat!($($introduction, "\n"),*),
                    codes: &[$($crate::exit_codes::ExitCodeDeclaration {
                        code: $code,
                        cause: $cause,
                        remedy: $remedy,
                    }),*],
                };
        }

        impl From<$codes> for ::std::process::ExitCode {
            fn from(code: $codes) -> Self {
                Self::from(code as u8)
            }
        }
    };
}
