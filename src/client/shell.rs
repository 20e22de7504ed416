//! Shell commands on a device, and the two places in which servers tell what a command returned.

use std::time::Duration;

use ciborium::Value;

use crate::smp::message::shell::{ShellCommand, ShellOutput};
use crate::smp::message::{Repeat, encode_body};
use crate::smp::{RawRequest, RequestId};

use super::{Client, ClientError};

/// How long a command may run before its answer.
const SHELL_TIMEOUT: Duration = Duration::from_secs(30);

impl Client {
    /// Runs a shell command. With [`Repeat::Safe`] it is sent again where no answer comes: then it may run more than once.
    /// It may run for `timeout`; without it for as long as the link's requests may take, or 30 s where nobody said so.
    ///
    /// # Errors
    /// [`ClientError`]. That the command itself failed is no error here: see [`ShellOutput::ret`].
    pub async fn shell(
        &mut self,
        argv: Vec<String>,
        repeat: Repeat,
        timeout: Option<Duration>,
    ) -> Result<ShellOutput, ClientError> {
        let payload = encode_body(&ShellCommand { argv })?;
        let request = RawRequest::from_parts(RequestId::of::<ShellCommand>(), repeat, payload)?;
        let timeout = timeout.or(self.options.timeout).unwrap_or(SHELL_TIMEOUT);
        self.fits(request.message_len()).await?;
        let answer = self.send(request, Some(timeout)).await?;
        match legacy(&answer.payload) {
            Some(output) => Ok(output),
            None => Ok(answer.decode::<ShellCommand>()?),
        }
    }
}

/// An answer that holds output and says in `rc` what the command returned. A refusal holds no output.
fn legacy(payload: &[u8]) -> Option<ShellOutput> {
    let value: Value = ciborium::from_reader(payload).ok()?;
    let fields = value.as_map()?;
    let field = |name: &str| Some(&fields.iter().find(|(key, _)| key.as_text() == Some(name))?.1);
    let ret = i32::try_from(field("rc")?.as_integer()?).ok()?;
    if field("ret").is_some() {
        return None;
    }
    Some(ShellOutput { o: field("o")?.as_text()?.to_owned(), ret })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_beside_output_is_the_commands_and_alone_the_servers() {
        let payload = |text: &str| hex::decode(text.replace(' ', "")).unwrap();
        // {"o": "no", "rc": -21}
        let output = legacy(&payload("bf 616f 626e6f 627263 34 ff"));
        assert_eq!(output, Some(ShellOutput { o: "no".to_owned(), ret: -21 }));
        // {"rc": 8}, and {"o": "no", "ret": 0, "rc": 0}
        assert_eq!(legacy(&payload("bf 627263 08 ff")), None);
        assert_eq!(legacy(&payload("bf 616f 626e6f 63726574 00 627263 00 ff")), None);
        assert_eq!(legacy(&payload("ff")), None);
    }
}
