//! What a worker does for steps that are not about images: shell, files, settings, clock, storage, any SMP command.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::cause::{Cause, Class};
use crate::client::{ClientError, FileError, ReceivedFile};
use crate::flow::{Outcome, SettingAction};
use crate::plan::{LocalFile, read_file};
use crate::smp::errors::ResponseError;
use crate::smp::exchange::ExchangeError;
use crate::smp::message::os::{GetDateTime, SetDateTime};
use crate::smp::message::raw::payload_to_json;
use crate::smp::message::settings::{CommitSettings, DeleteSetting, ReadSetting, SaveSettings, WriteSetting};
use crate::smp::message::shell::ShellCommand;
use crate::smp::message::zephyr::EraseStorage;
use crate::smp::message::{Repeat, Request, decode_response, encode_body};
use crate::smp::{Op, RawRequest, RequestId};

use super::progress::Progress;
use super::worker::{ERASE_TIMEOUT, Worker, lost};

/// How devices take and tell the time; milliseconds are left out, which not every server takes.
const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S";
/// Length of a time in that format, in bytes: what follows it is left out.
const TIME_LENGTH: usize = 19;

impl Worker {
    /// Runs a shell command, once.
    pub(super) async fn shell(
        &mut self,
        command: String,
        timeout: Option<Duration>,
    ) -> Result<Outcome, Cause> {
        // The server joins the words with blanks: one word is the whole line.
        let argv = vec![command];
        let length = encoded(&ShellCommand { argv: argv.clone() }, Repeat::Once)?.message_len();
        self.client().await?.fits(length).await?;
        self.answers_now().await?;
        let wrote = self.about_to_write().await?;
        let result = self.client().await?.shell(argv, Repeat::Once, timeout).await;
        self.once(wrote, result, |shell| Outcome::Printed {
            output: console::strip_ansi_codes(&shell.o).into_owned(),
            returned: shell.ret,
        })
        .await
    }

    /// Erases the storage, once.
    pub(super) async fn erase_storage(&mut self) -> Result<Outcome, Cause> {
        let request = encoded(&EraseStorage {}, Repeat::Once)?;
        self.answers_now().await?;
        let wrote = self.about_to_write().await?;
        let timeout = self.options.timeout.unwrap_or_default().max(ERASE_TIMEOUT);
        let result = self.client().await?.send(request, Some(timeout)).await;
        let result = result.and_then(|answer| Ok(answer.decode::<EraseStorage>()?));
        self.once(wrote, result, |_| Outcome::Done).await
    }

    /// Any SMP command; a write is sent once.
    pub(super) async fn smp(&mut self, request: RequestId, payload: Vec<u8>) -> Result<Outcome, Cause> {
        let writes = request.op == Op::Write;
        let repeat = if writes { Repeat::Once } else { Repeat::Safe };
        let raw = RawRequest::from_parts(request, repeat, payload).map_err(ClientError::from)?;
        self.client().await?.fits(raw.message_len()).await?;
        if writes {
            self.answers_now().await?;
        }
        let wrote = if writes { self.about_to_write().await? } else { self.wrote };
        let answer = self.client().await?.send(raw, None).await;
        let told = answer.and_then(|answer| {
            let malformed = |source| ClientError::from(ResponseError { request, source });
            let refusal = match decode_response::<ciborium::Value>(&answer.payload).map_err(malformed) {
                Ok(_) => None,
                Err(error @ ClientError::Device { .. }) => Some(Cause::from(error)),
                Err(error) => return Err(error),
            };
            Ok((payload_to_json(&answer.payload).map_err(malformed)?, refusal))
        });
        if !writes {
            let (answer, refusal) = told?;
            return Ok(Outcome::Answered { answer, refusal });
        }
        let refused = matches!(&told, Ok((_, Some(_))));
        let outcome =
            self.once(wrote, told, |(answer, refusal)| Outcome::Answered { answer, refusal }).await?;
        // A device that said no did nothing.
        self.wrote = wrote || !refused;
        Ok(outcome)
    }

    /// Asks before what must not be sent a second time: on a link that has died, or to a device that is just booting, it
    /// would be lost, and nobody would know. An echo can be tried again.
    async fn answers_now(&mut self) -> Result<(), Cause> {
        match self.client().await?.echo("flashfleet".to_owned()).await {
            // A server that refuses, as one without the echo command, is a server that answers.
            Ok(_) | Err(ClientError::Device { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What came of a request that must not be sent a second time. Before it nothing was written, unless `wrote`.
    async fn once<T>(
        &mut self,
        wrote: bool,
        result: Result<T, ClientError>,
        done: impl FnOnce(T) -> Outcome,
    ) -> Result<Outcome, Cause> {
        match result {
            Ok(value) => Ok(done(value)),
            Err(
                error @ (ClientError::Device { .. } | ClientError::Encode(_) | ClientError::TooLong { .. }),
            ) => {
                self.wrote = wrote;
                Err(error.into())
            }
            Err(error) => {
                let cause = Cause::from(error);
                if cause.class == Class::Link {
                    self.disconnect().await;
                }
                Ok(Outcome::MayHaveHappened(Cause {
                    message: format!("{}; it may have been done, or not, and is not sent a second time", cause.message),
                    help: "look at the device before anything else is done to it: running the plan again does it again".to_owned(),
                    ..cause
                }))
            }
        }
    }

    /// Compares a file on the device with one of this machine.
    pub(super) async fn compare_file(&mut self, file: &LocalFile, to: &str) -> Result<Outcome, Cause> {
        let content = self.content(file)?;
        match self.client().await?.compare_file(to, &content).await {
            Ok(kind) => Ok(Outcome::Compared(kind)),
            Err(FileError::Differs { .. }) => Ok(Outcome::Compared(None)),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a file to the device and compares what is there.
    pub(super) async fn put_file(&mut self, file: &LocalFile, to: &str) -> Result<Outcome, Cause> {
        let content = self.content(file)?;
        let wrote = self.about_to_write().await?;
        let mut progress = self.progress();
        let Some(client) = self.client.as_mut() else { return Err(lost().into()) };
        let total = content.len() as u64;
        let mut arrived = false;
        let result = client
            .put_file(to, &content, |done| {
                arrived |= done > 0;
                progress.tell(done, total);
            })
            .await;
        let refused = matches!(
            &result,
            Err(FileError::NoRoom { .. }
                | FileError::Client(ClientError::Device { .. } | ClientError::Encode(_)))
        );
        self.wrote = wrote || arrived || !refused;
        let put = result?;
        Ok(Outcome::FilePut { bytes: put.bytes, resumed: put.resumed, checked: put.checked })
    }

    /// Reads a file from the device into one of its own on this machine.
    pub(super) async fn get_file(&mut self, from: &str, file: &LocalFile) -> Result<Outcome, Cause> {
        let path = self.path(file)?;
        self.written.claim(&path, &self.id, self.matched.address())?;
        self.client().await?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| {
                let message = format!("expected to make the folder {}, but {error}", folder.display());
                let help = "check the path, its rights and the disk";
                Cause::new(Class::Station, "station.cannot_write", message, help)
            })?;
        }
        let mut received = ReceivedFile::begin(&path)?;
        let mut progress = self.progress();
        let Some(client) = self.client.as_mut() else { return Err(lost().into()) };
        let got =
            client.get_file(from, |data| received.write(data), |done, total| progress.tell(done, total));
        let bytes = got.await?;
        received.keep()?;
        Ok(Outcome::FileGot { bytes, path: path.display().to_string() })
    }

    pub(super) fn progress(&self) -> Progress {
        Progress::new(self.id.clone(), self.step, self.reporter.clone(), self.clock, self.uploads.clone())
    }

    /// Where a file of this device is on this machine.
    fn path(&self, file: &LocalFile) -> Result<PathBuf, Cause> {
        Ok(file.folder.join(self.matched.fill_file_name(&file.name)?))
    }

    fn content(&self, file: &LocalFile) -> Result<Arc<[u8]>, Cause> {
        if let Some(content) = &file.content {
            return Ok(Arc::clone(content));
        }
        let path = self.path(file)?;
        read_file(&path).map_err(|error| {
            let message = format!("expected to read {}, but {error}", path.display());
            let help =
                "each device needs its own file, by the name that the plan makes of what the device is";
            // Trying again would not make the file.
            Cause::new(Class::Plan, "plan.file_unreadable", message, help)
        })
    }

    /// One request about settings.
    pub(super) async fn setting(&mut self, action: SettingAction) -> Result<Outcome, Cause> {
        match action {
            SettingAction::Delete(name) => self.write_setting(&DeleteSetting { name }).await,
            SettingAction::Write { name, value } => {
                self.write_setting(&WriteSetting { name, val: value }).await
            }
            SettingAction::Commit => self.write_setting(&CommitSettings {}).await,
            SettingAction::Save => self.write_setting(&SaveSettings { name: None }).await,
            SettingAction::Read { name, most } => {
                let request = ReadSetting { name, max_size: Some(most) };
                let value = self.client().await?.request(&request).await?;
                Ok(Outcome::Setting { value: value.val, most: value.max_size })
            }
        }
    }

    async fn write_setting<R: Request>(&mut self, request: &R) -> Result<Outcome, Cause> {
        let length = encoded(request, R::REPEAT)?.message_len();
        self.client().await?.fits(length).await?;
        let wrote = self.about_to_write().await?;
        // What is saved goes into flash, and may need erasing first.
        let timeout = self.options.timeout.unwrap_or_default().max(ERASE_TIMEOUT);
        let result = if RequestId::of::<R>() == RequestId::of::<SaveSettings>() {
            self.client().await?.request_within(request, timeout).await
        } else {
            self.client().await?.request(request).await
        };
        self.wrote = wrote || !matches!(result, Err(ClientError::Device { .. }));
        result?;
        Ok(Outcome::Done)
    }

    /// Sets the device's clock. A request that is sent again says what time it is then.
    pub(super) async fn set_time(&mut self) -> Result<Outcome, Cause> {
        let wrote = self.about_to_write().await?;
        let mut tries = 0;
        loop {
            let datetime = self.machine_time().format(TIME_FORMAT).to_string();
            let request = encoded(&SetDateTime { datetime }, Repeat::Once)?;
            let client = self.client().await?;
            let retries = client.options().retries;
            let result = client.send(request, None).await;
            match result.and_then(|answer| Ok(answer.decode::<SetDateTime>()?)) {
                Ok(_) => return Ok(Outcome::Done),
                Err(ClientError::Unanswered(ExchangeError::Unanswered { .. })) if tries < retries => {
                    tries += 1
                }
                Err(error) => {
                    self.wrote = wrote || tries > 0 || !matches!(error, ClientError::Device { .. });
                    return Err(error.into());
                }
            }
        }
    }

    /// Reads the device's clock, and this machine's with it.
    pub(super) async fn read_time(&mut self) -> Result<Outcome, Cause> {
        let device = self.client().await?.request(&GetDateTime {}).await?.datetime;
        let machine = self.machine_time();
        let apart = time_of_device(&device).map(|time| (time - machine).abs().to_std().unwrap_or_default());
        Ok(Outcome::Clock { device, machine: machine.format(TIME_FORMAT).to_string(), apart })
    }

    fn machine_time(&self) -> NaiveDateTime {
        self.clock.wall(self.clock.now()).naive_utc()
    }
}

fn encoded<R: Request>(request: &R, repeat: Repeat) -> Result<RawRequest, ClientError> {
    let payload = encode_body(request)?;
    Ok(RawRequest::from_parts(RequestId::of::<R>(), repeat, payload)?)
}

/// A device's time, in UTC: a zone counts where it gives one, a fraction does not (Zephyr leaves out the zeros in it).
fn time_of_device(text: &str) -> Option<NaiveDateTime> {
    let plain = || NaiveDateTime::parse_from_str(text.get(..TIME_LENGTH)?, TIME_FORMAT).ok();
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Some(time.with_timezone(&Utc).naive_utc()),
        Err(_) => plain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_in_which_devices_tell_their_time_are_read() {
        let read = |text| time_of_device(text).map(|time| time.format(TIME_FORMAT).to_string());
        for (text, want) in [
            ("2026-11-25T20:52:29", Some("2026-11-25T20:52:29")),
            ("2026-11-25T20:52:29.5", Some("2026-11-25T20:52:29")),
            ("2026-11-25T20:52:29.000005+02:00", Some("2026-11-25T18:52:29")),
            ("2026-11-25", None),
            ("", None),
            ("2026-13-25T20:52:29", None),
            ("ääääääääääääääääääää", None),
        ] {
            assert_eq!(read(text).as_deref(), want, "{text}");
        }
    }
}
