//! Does what one device's flow asks for: owns the link and the conversation, tells events. Decides nothing about steps.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::cause::{Cause, Class};
use crate::client::{Client, ClientError, ClientOptions, Conversation, UploadRequest};
use crate::flow::{Action, DeviceResult, Directive, Flow, FlowConfig, FlowEvent, Outcome, StepEnded};
use crate::image::Image;
use crate::report::{Departure, DeviceId, EventKind, StepFinished, Verdict};
use crate::smp::message::image::{Erase, ListImages, SetState, SlotInfo};
use crate::smp::message::os::{BootloaderInfo, Reset};
use crate::smp::upload::UploadError;
use crate::transport::{Connector, Firmware, Link, LinkError, LinkErrorKind};

use super::clock::Clock;
use super::probe::is_of_this_machine;
use super::programs::{self, Names};
use super::progress::Uploads;
use super::recovery::question_of;
use super::reporter::{Reporter, Tell};
use super::way::{LEAST_QUIET, Refusing, Way};
use super::written::WrittenFiles;

/// How long a question waits for its answer while a device is expected back; longer where the plan's `timeout` is.
const RETURN_QUESTION: Duration = Duration::from_secs(1);
/// How long closing a link may take at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Links that an upload may find to be of no use, beyond the one that it began with.
const STUCK_LINKS: u32 = 2;
/// How long an erase may take: as long as the first chunk of an upload, which erases too.
pub(super) const ERASE_TIMEOUT: Duration = Duration::from_secs(40);

/// The boot mode of a reset into the application (Zephyr, `BOOT_MODE_TYPE_NORMAL` in `retention/bootmode.h`).
const BOOT_MODE_NORMAL: u8 = 0;

/// How the people at the line want the run to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    /// Go on.
    No,
    /// End after the step under way.
    AfterStep,
    /// End now.
    Now,
}

/// Who is expected to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expects {
    /// The application.
    Application,
    /// The bootloader, in its serial recovery.
    Bootloader,
    /// The application, and where it does not boot the bootloader that was left.
    Either,
}

/// Everything that one device needs.
#[derive(Debug)]
pub(super) struct Worker {
    pub id: DeviceId,
    pub(super) way: Way,
    pub options: ClientOptions,
    pub config: FlowConfig,
    pub names: Names,
    pub recover: Vec<String>,
    pub reporter: actix::Addr<Reporter>,
    pub clock: Clock,
    /// As the device was matched, for the names of its files: a port that has another name after a reset must not give
    /// them another one.
    pub matched: Names,
    /// The files of this machine that the run has written.
    pub written: WrittenFiles,
    /// The uploads of the run.
    pub uploads: Uploads,
    pub client: Option<Client>,
    /// While no link is open.
    conversation: Option<Conversation>,
    /// Something was written to the device, or may have been.
    pub wrote: bool,
    /// Position of the step under way, for progress.
    pub step: usize,
    /// Who is expected to answer.
    pub(super) expects: Expects,
}

impl Worker {
    #[expect(clippy::too_many_arguments, reason = "one place builds it, from as many sources")]
    pub(super) fn new(
        id: DeviceId,
        connector: Arc<dyn Connector>,
        options: ClientOptions,
        config: FlowConfig,
        names: Names,
        recover: Vec<String>,
        reporter: actix::Addr<Reporter>,
        clock: Clock,
        written: WrittenFiles,
    ) -> Self {
        Self {
            id,
            way: Way::new(connector, config.return_within),
            options,
            expects: if config.starts_in_bootloader { Expects::Bootloader } else { Expects::Application },
            config,
            matched: names.clone(),
            names,
            recover,
            reporter,
            clock,
            written,
            uploads: Uploads::default(),
            client: None,
            conversation: None,
            wrote: false,
            step: 0,
        }
    }

    /// Walks the flow to its end. The deadline and the stop are obeyed whatever an action does.
    pub(super) async fn run(&mut self, deadline: Instant, mut stop: watch::Receiver<Stop>) -> DeviceResult {
        let mut flow = Flow::new(&self.config);
        let result = self.walk(&mut flow, deadline, &mut stop).await;
        // The verdict stands, whatever the closing of a link does.
        let _ = timeout(CLOSE_WITHIN, self.disconnect()).await;
        DeviceResult { changed: result.changed || self.wrote, ..result }
    }

    async fn walk(
        &mut self,
        flow: &mut Flow,
        deadline: Instant,
        stop: &mut watch::Receiver<Stop>,
    ) -> DeviceResult {
        let allowed = deadline.saturating_duration_since(Instant::now());
        loop {
            if *stop.borrow() >= Stop::AfterStep {
                flow.stop_after_step(interrupted());
            }
            let action = match flow.next(self.clock.now()) {
                Directive::Tell(event) => {
                    self.tell_flow(event);
                    continue;
                }
                Directive::Finished(result) => return result,
                Directive::Perform(action) => action,
            };
            self.step = flow.current_index();
            let (verdict, cause) = tokio::select! {
                biased;
                () = stopped_now(stop) => (Verdict::Aborted, interrupted()),
                () = sleep_until(deadline) => (Verdict::TimedOut, deadline_passed(allowed, flow.current_step())),
                outcome = self.perform(action) => {
                    if self.wrote {
                        flow.note_written();
                    }
                    flow.handle(outcome);
                    continue;
                }
            };
            if self.wrote {
                flow.note_written();
            }
            if let Some(ended) = flow.cut_step(self.clock.now(), verdict, &cause) {
                self.tell_flow(FlowEvent::StepEnded(Box::new(ended)));
            }
            return flow.cut(verdict, cause);
        }
    }

    async fn perform(&mut self, action: Action) -> Outcome {
        let result = match action {
            Action::ReadState => self.read_state().await,
            Action::ReadMode => self.read_mode().await,
            Action::ReadSlots => self.read_slots().await,
            Action::Upload { image, hash, image_number, upgrade_only } => {
                self.upload(&image, &hash, UploadRequest { image_number, primary_of: None, upgrade_only })
                    .await
            }
            Action::UploadToPrimary { image, hash, image_number, upload_id } => {
                let primary_of = Some(image_number);
                let request = UploadRequest { image_number: upload_id, primary_of, upgrade_only: false };
                self.upload(&image, &hash, request).await
            }
            Action::AskConsoleEcho => self.ask_console_echo().await,
            Action::MarkForTest { hash } => self.set_state(hash, false).await,
            Action::Confirm { hash } | Action::MarkToStay { hash } => self.set_state(hash, true).await,
            Action::Erase { slot } => self.erase(slot).await,
            Action::Reset { force, boot_mode } => self.reset(force, boot_mode).await,
            Action::AwaitReturn { quiet, within } => self.await_return(quiet, within).await,
            Action::Echo { text } => self.echo(text).await,
            Action::Wait(time) => {
                sleep(time).await;
                Ok(Outcome::Done)
            }
            Action::RunProgram { program, arguments } => programs::run(&program, &arguments, &self.names)
                .await
                .map(|ended| Outcome::ProgramEnded { code: ended.code, output: ended.output }),
            Action::Recover => self.recover().await,
            Action::Shell { command, timeout } => self.shell(command, timeout).await,
            Action::CompareFile { file, to } => self.compare_file(&file, &to).await,
            Action::PutFile { file, to } => self.put_file(&file, &to).await,
            Action::GetFile { from, file } => self.get_file(&from, &file).await,
            Action::Setting(action) => self.setting(action).await,
            Action::SetTime => self.set_time().await,
            Action::ReadTime => self.read_time().await,
            Action::EraseStorage => self.erase_storage().await,
            Action::Smp { request, payload } => self.smp(request, payload).await,
        };
        match result {
            Ok(outcome) => outcome,
            Err(cause) => {
                // A link that failed once is opened anew: what arrives late on the old one is nobody's answer.
                if cause.class == Class::Link || self.client.as_ref().is_some_and(Client::is_broken) {
                    self.disconnect().await;
                    match cause.code.as_ref() {
                        "link.disconnected" => self.way.note_gone(),
                        "link.not_found" => {}
                        _ => self.way.note_closed(),
                    }
                }
                Outcome::Failed(cause)
            }
        }
    }

    async fn read_state(&mut self) -> Result<Outcome, Cause> {
        let state = self.client().await?.request(&ListImages {}).await?;
        Ok(Outcome::State(state))
    }

    async fn read_mode(&mut self) -> Result<Outcome, Cause> {
        let query = BootloaderInfo { query: Some("mode".to_owned()) };
        match self.client().await?.request(&query).await {
            Ok(info) => {
                Ok(Outcome::Mode { mode: info.mode, no_downgrade: info.no_downgrade.unwrap_or(false) })
            }
            // Not every firmware has the command; then nothing is known of the mode.
            Err(ClientError::Device { .. }) => Ok(Outcome::Mode { mode: None, no_downgrade: false }),
            Err(error) => Err(error.into()),
        }
    }

    async fn read_slots(&mut self) -> Result<Outcome, Cause> {
        let slots = match self.client().await?.request(&SlotInfo {}).await {
            Ok(slots) => Some(slots),
            Err(ClientError::Device { .. }) => None,
            // Old bootloaders say nothing to what they do not know.
            Err(ClientError::Unanswered(_)) if self.expects == Expects::Bootloader => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Outcome::Slots(slots))
    }

    async fn set_state(&mut self, hash: Vec<u8>, confirm: bool) -> Result<Outcome, Cause> {
        let wrote = self.about_to_write().await?;
        let result = self.client().await?.request(&SetState { hash: Some(hash), confirm }).await;
        self.wrote = wrote || !is_refusal(&result);
        Ok(Outcome::State(result?))
    }

    async fn erase(&mut self, slot: u32) -> Result<Outcome, Cause> {
        let wrote = self.about_to_write().await?;
        let erase = Erase { slot: Some(slot) };
        let result = self.client().await?.request_within(&erase, ERASE_TIMEOUT).await;
        self.wrote = wrote || !is_refusal(&result);
        result?;
        Ok(Outcome::Done)
    }

    /// Opens the link where none is open, and counts what is sent from now on as written, should it be cut off or its
    /// answer be lost. Gives whether anything was written before, for a device that then refuses.
    pub(super) async fn about_to_write(&mut self) -> Result<bool, LinkError> {
        self.client().await?;
        Ok(std::mem::replace(&mut self.wrote, true))
    }

    async fn echo(&mut self, text: String) -> Result<Outcome, Cause> {
        Ok(Outcome::Echoed(self.client().await?.echo(text).await?))
    }

    async fn upload(&mut self, name: &str, hash: &[u8], request: UploadRequest) -> Result<Outcome, Cause> {
        let Some(image) = self.config.images.get(name).and_then(|set| set.by_hash(hash)).cloned() else {
            return Err(Cause::new(
                Class::Internal,
                "internal.unknown_image",
                format!("expected the plan to hold image {name}, it does not"),
                "this is a defect of flashfleet: the plan should have been refused",
            ));
        };
        self.client().await?.limits().await?;
        let before = self.about_to_write().await?;
        let mut progress = self.progress();
        let mut arrived = false;
        let mut tell = |done, total| {
            arrived |= done > 0;
            progress.tell(done, total);
        };
        let mut stuck_links = 0;
        let result = loop {
            let Some(client) = self.client.as_mut() else { return Err(lost().into()) };
            let result = upload(client, &image, request, &mut tell).await;
            if result.is_ok() || !client.is_stuck() || stuck_links >= STUCK_LINKS {
                break result;
            }
            // Another link to the same server: it goes on where it was.
            stuck_links += 1;
            self.disconnect().await;
            self.way.note_closed();
            self.client().await?.limits().await?;
        };
        self.wrote = before || arrived || !is_refusal(&result);
        let mut uploaded = result?;
        if stuck_links > 0 {
            uploaded.notes.push(format!(
                "{stuck_links} times the link took no message of several writes any more and was left for another one"
            ));
        }
        Ok(Outcome::Uploaded { figures: uploaded.figures, notes: uploaded.notes })
    }

    async fn reset(&mut self, force: bool, boot_mode: Option<u8>) -> Result<Outcome, Cause> {
        let request = Reset { force: force.then_some(true), boot_mode };
        let wrote = self.about_to_write().await?;
        let result = self.client().await?.request(&request).await;
        self.wrote = wrote || !is_refusal(&result);
        if !is_refusal(&result) {
            self.expect_after_reset(boot_mode);
            self.way.expect(match boot_mode {
                None | Some(BOOT_MODE_NORMAL) => Firmware::Application,
                Some(_) => Firmware::Bootloader,
            });
        }
        match result {
            Ok(_) => Ok(Outcome::ResetSent { answered: true }),
            Err(error @ (ClientError::Device { .. } | ClientError::Encode(_))) => Err(error.into()),
            // A link that went with the device, or that broke while the message was under way.
            Err(ClientError::Link(error)) => {
                self.disconnect().await;
                if error.kind == LinkErrorKind::Disconnected {
                    self.way.note_gone();
                }
                Ok(Outcome::ResetSent { answered: false })
            }
            // No answer, or none that can be read: what came of it is found out by looking.
            Err(_) => Ok(Outcome::ResetSent { answered: false }),
        }
    }

    /// How long one question waits: some links are slower than most, and the plan knows, or what was measured does.
    pub(super) fn question(&self) -> Duration {
        let measured = self.client.as_ref().and_then(Client::measured_timeout);
        self.options.timeout.or(measured).unwrap_or_default().max(RETURN_QUESTION) + self.options.settle
    }

    /// Silence, then questions, until the device answers or its time is over.
    async fn await_return(&mut self, quiet: Duration, within: Duration) -> Result<Outcome, Cause> {
        let start = Instant::now();
        let end = start + within;
        let quiet = quiet.max(LEAST_QUIET);
        let question = self.question();
        let mut left = Departure::None;
        let silent_until = match self.client.as_mut() {
            Some(client) => match timeout_at(start + quiet, client.listen()).await {
                Ok(_gone) => {
                    left = Departure::Gone;
                    self.disconnect().await;
                    self.way.note_gone();
                    (start + quiet).max(Instant::now() + LEAST_QUIET)
                }
                Err(_elapsed) => start + quiet,
            },
            None => {
                if self.way.is_gone() {
                    left = Departure::Gone;
                }
                start + quiet
            }
        };
        sleep_until(silent_until.min(end)).await;
        let mut refusing = Refusing::default();
        let mut trouble = None;
        while Instant::now() < end {
            if self.client.is_none() {
                match timeout_at(end, self.way.open_now()).await {
                    Ok(Ok(link)) => self.adopt(link),
                    Ok(Err(error)) if matches!(error.kind, LinkErrorKind::Busy | LinkErrorKind::Denied) => {
                        trouble = Some(error.clone());
                        refusing.again(error).await?;
                        continue;
                    }
                    Ok(Err(error)) => {
                        refusing = Refusing::default();
                        left = Departure::Gone;
                        trouble = Some(error);
                        self.way.maybe_back(end).await;
                        continue;
                    }
                    Err(_elapsed) => break,
                }
            }
            let Some(client) = self.client.as_mut() else { continue };
            let question = question.min(end - Instant::now());
            match question_of(client, self.expects, question).await {
                Ok(()) => {
                    // What boots may have other buffers than what left.
                    client.forget_limits();
                    return Ok(Outcome::Returned { left });
                }
                Err(ClientError::Link(_)) => {
                    left = Departure::Gone;
                    self.disconnect().await;
                    self.way.note_gone();
                    self.way.maybe_back(end).await;
                }
                Err(_no_answer) => {
                    trouble = None;
                    if left == Departure::None {
                        left = Departure::Silent;
                    }
                    sleep_until((Instant::now() + quiet).min(end)).await;
                }
            }
        }
        match trouble {
            // It may well be back: that it was not reached has another reason.
            Some(error) if is_of_this_machine(error.kind) => Err(error.into()),
            trouble => Ok(Outcome::NeverReturned { left, seen: trouble.map(|error| error.message) }),
        }
    }

    async fn recover(&mut self) -> Result<Outcome, Cause> {
        self.disconnect().await;
        self.way.note_closed();
        let Some((program, arguments)) = self.recover.split_first() else { return Ok(Outcome::Done) };
        let ended = programs::run(program, arguments, &self.names).await?;
        if ended.code != Some(0) {
            let actual = ended.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
            return Err(Cause::new(
                Class::Station,
                "station.recover_failed",
                format!("expected the recovery program {program} to exit with 0, got {actual}"),
                "run the recovery program by hand: the device did not return and could not be power-cycled",
            ));
        }
        Ok(Outcome::Done)
    }

    /// The conversation; a link is opened where none is open.
    pub(super) async fn client(&mut self) -> Result<&mut Client, LinkError> {
        if self.client.is_none() {
            let link = self.way.open().await?;
            self.adopt(link);
        }
        self.client.as_mut().ok_or_else(lost)
    }

    /// Goes on over a new link.
    fn adopt(&mut self, link: Box<dyn Link>) {
        let conversation = self.conversation.take().unwrap_or_default();
        // Programs that a plan runs are told where the device is now.
        self.names.set("address", self.way.address());
        let mut client = Client::new(link, self.options.clone(), conversation);
        client.expect_bootloader(self.expects == Expects::Bootloader);
        self.client = Some(client);
    }

    pub(super) async fn disconnect(&mut self) {
        if let Some(client) = self.client.take() {
            self.conversation = Some(client.close().await);
        }
    }

    fn tell_flow(&mut self, event: FlowEvent) {
        let kind = match event {
            FlowEvent::StepStarted { step, name } => EventKind::StepStarted { step, name },
            FlowEvent::StepRetried { step, attempt, cause } => {
                EventKind::StepRetried { step, attempt, cause }
            }
            FlowEvent::StepEnded(ended) => EventKind::StepFinished(self.finished(*ended)),
        };
        self.reporter.do_send(Tell {
            device: Some(self.id.clone()),
            at: self.clock.wall(self.clock.now()),
            kind,
        });
    }

    fn finished(&mut self, mut ended: StepEnded) -> StepFinished {
        ended.detail.notes.extend(self.way.take_notes());
        StepFinished {
            step: ended.step,
            name: ended.name,
            verdict: ended.verdict,
            attempts: ended.attempts,
            started_at: self.clock.wall(ended.started),
            duration_s: seconds(ended.ended.saturating_sub(ended.started)),
            cause: ended.cause,
            detail: ended.detail,
        }
    }
}

async fn upload(
    client: &mut Client,
    image: &Arc<Image>,
    request: UploadRequest,
    progress: impl FnMut(u64, u64) + Send,
) -> Result<crate::client::Uploaded, ClientError> {
    client.upload(Arc::clone(image.bytes()), *image.file_sha256(), image.hash(), request, progress).await
}

/// Whether the device said no, or was not asked as the message does not fit, so that nothing was done.
fn is_refusal<T>(result: &Result<T, ClientError>) -> bool {
    match result {
        Err(ClientError::Device { .. } | ClientError::Upload(UploadError::Device { .. })) => true,
        Err(ClientError::Link(error)) => error.kind == LinkErrorKind::MtuTooSmall,
        _ => false,
    }
}

async fn stopped_now(stop: &mut watch::Receiver<Stop>) {
    if stop.wait_for(|stop| *stop == Stop::Now).await.is_err() {
        // Nobody is left who could stop it.
        std::future::pending::<()>().await;
    }
}

pub(super) fn lost() -> LinkError {
    LinkError::new(LinkErrorKind::Disconnected, "expected an open link, it is gone", "run again")
}

/// Seconds, for reports.
pub(super) fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// The cause of every end that a person asked for.
pub(super) fn interrupted() -> Cause {
    Cause::new(
        Class::Station,
        "run.interrupted",
        "the run was interrupted",
        "run the plan again: devices that are done are recognised and left as they are",
    )
}

fn deadline_passed(allowed: Duration, step: Option<&str>) -> Cause {
    let within = step.map_or_else(String::new, |step| format!(", it was in step {step}"));
    Cause::new(
        Class::Device,
        "device.deadline",
        format!(
            "expected the device to be done within its deadline of {:.0} s{within}",
            allowed.as_secs_f64()
        ),
        "raise policy.deadline, or look in the report at which step takes so long",
    )
}
