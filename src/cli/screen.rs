//! The only place that writes to stdout and stderr. Escape sequences are dropped where there is no terminal, and a
//! reader that goes away (`| head`) is no error.

use std::io::{self, ErrorKind, Write};

use super::CommandError;

/// Prints `text` and a line end to stdout.
pub(super) fn out(text: &str) -> Result<(), CommandError> {
    let mut stdout = anstream::stdout().lock();
    quiet(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
        .map_err(|error| CommandError::NotDone(format!("cannot write to stdout: {error}")))
}

/// Prints `text` and a line end to stderr; where that fails, no one is left to read it.
pub(super) fn err(text: &str) {
    drop(writeln!(anstream::stderr().lock(), "{text}"));
}

/// What another program sent, without the control characters that would move the cursor or hide text.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn quiet(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_pipe_is_no_error_and_a_full_disk_is() {
        assert!(quiet(Err(ErrorKind::BrokenPipe.into())).is_ok());
        assert!(quiet(Err(ErrorKind::StorageFull.into())).is_err());
    }

    #[test]
    fn escape_sequences_of_others_are_defused() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }
}
