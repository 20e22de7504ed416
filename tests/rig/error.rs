//! The rig's error: what went wrong, and what to do about it.

use std::fmt;

/// A failure of the rig itself. Its `Debug` is its `Display`, so that a test returning it reads well.
pub(crate) struct RigError {
    message: String,
    help: Option<String>,
}

/// What the rig's functions return.
pub(crate) type Result<T> = std::result::Result<T, RigError>;

impl RigError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    /// Adds the next thing to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for RigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for RigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for RigError {}

impl From<std::io::Error> for RigError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Says which thing an error was about.
pub(crate) trait Context<T> {
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| RigError::new(format!("{what}: {error}")))
    }
}
