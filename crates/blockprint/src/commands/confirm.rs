//! Asks, on a terminal, whether a device may be overwritten.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use engine::{Error, ErrorKind, Result, devices};

/// Asks whether `target` may be overwritten.
///
/// # Errors
///
/// `Invalid` where nobody can be asked; `Cancelled` for any other answer than yes.
pub(super) fn overwriting(image: &Path, target: &Path) -> Result<()> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let sentence = format!(
            "cannot ask whether {} may be overwritten: this is no terminal (--yes says so)",
            target.display()
        );
        return Err(Error::new(ErrorKind::Invalid, sentence));
    }
    let device = devices::look(target)?;
    let mut err = io::stderr().lock();
    let asked = write!(
        err,
        "All of this will be LOST:\n  {}\nIt will be overwritten with {}.\nType yes to go on: ",
        device.describe(),
        devices::shown(&image.to_string_lossy()),
    )
    .and_then(|()| err.flush());
    let mut answer = String::new();
    let answered = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
    match answered {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(Error::new(ErrorKind::Cancelled, "nothing was written: the answer was not yes")),
    }
}
