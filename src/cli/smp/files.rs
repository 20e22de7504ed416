//! The commands that move much: image upload, file put and get, with their progress on standard error.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::prepare::Firmware;
use super::show::Told;
use crate::cause::Cause;
use crate::client::{Client, ReceivedFile, UploadRequest};

/// Drawn at most this often per second.
const REFRESH_HZ: u8 = 10;

/// Where it is told how far a command is, and what it brings.
pub(super) struct Terminal<'a> {
    /// Standard output.
    pub(super) out: &'a mut dyn Write,
    /// Show no progress.
    pub(super) quiet: bool,
}

/// A bar on standard error; nothing where that is no terminal, or nobody wants one.
fn bar(total: u64, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(REFRESH_HZ));
    let template = "[{wide_bar}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta}";
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A bar that is told how far it is as often as it is drawn. It reckons with every position that it is told, seen or not,
/// which took as long as all else that an answer brings about.
struct Shown {
    bar: ProgressBar,
    next: Instant,
}

impl Shown {
    fn new(bar: &ProgressBar) -> Self {
        Self { bar: bar.clone(), next: Instant::now() }
    }

    fn set_position(&mut self, done: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let now = Instant::now();
        if now >= self.next {
            self.next = now + Duration::from_secs(1) / u32::from(REFRESH_HZ);
            self.bar.set_position(done);
        }
    }
}

pub(super) async fn upload(
    client: &mut Client,
    file: Firmware,
    request: UploadRequest,
    terminal: &Terminal<'_>,
) -> Result<Told, Cause> {
    let bar = bar(file.bytes.len() as u64, terminal.quiet);
    let progress = {
        let mut shown = Shown::new(&bar);
        move |done, _total| shown.set_position(done)
    };
    let Firmware { bytes, sha256, hash, version, .. } = file;
    let uploaded = client.upload(bytes, sha256, &hash, request, progress).await;
    bar.finish_and_clear();
    let uploaded = uploaded.map_err(Cause::from)?;
    let figures = &uploaded.figures;
    let mut text = format!(
        "uploaded {} bytes in {:.1} s, {:.0} bytes/s{}\n",
        figures.bytes,
        figures.duration_s,
        figures.bytes_per_s,
        if hash.is_empty() { String::new() } else { format!(": {}", hex::encode(&hash)) }
    );
    for note in &uploaded.notes {
        text += &format!("note: {note}\n");
    }
    let json = json!({
        "hash": (!hash.is_empty()).then(|| hex::encode(&hash)),
        "version": version,
        "bytes": figures.bytes,
        "duration_s": figures.duration_s,
        "bytes_per_s": figures.bytes_per_s,
        "resent": figures.resent,
        "notes": uploaded.notes,
    });
    Ok(Told::new(text, json))
}

pub(super) async fn put(
    client: &mut Client,
    data: &[u8],
    remote: &str,
    terminal: &Terminal<'_>,
) -> Result<Told, Cause> {
    let bar = bar(data.len() as u64, terminal.quiet);
    let mut shown = Shown::new(&bar);
    let put = client.put_file(remote, data, |done| shown.set_position(done)).await;
    bar.finish_and_clear();
    let put = put.map_err(Cause::from)?;
    let checked = match &put.checked {
        Some(kind) => format!("{kind} compared"),
        None => "no hash compared".to_owned(),
    };
    let mut text = format!("put {} bytes, {checked}", put.bytes);
    if put.resumed > 0 {
        text += &format!(", went on {} times", put.resumed);
    }
    let json =
        json!({ "remote": remote, "bytes": put.bytes, "checked": put.checked, "resumed": put.resumed });
    Ok(Told::new(text, json))
}

/// Gets a file. It appears under its name when it is whole.
pub(super) async fn get(
    client: &mut Client,
    remote: &str,
    local: &Path,
    terminal: &mut Terminal<'_>,
) -> Result<Told, Cause> {
    let bar = bar(0, terminal.quiet);
    let mut shown = Shown::new(&bar);
    let progress = |done, total| {
        bar.set_length(total);
        shown.set_position(done);
    };
    if local == Path::new("-") {
        let got = client.get_file(remote, |data| terminal.out.write_all(data), progress).await;
        bar.finish_and_clear();
        got.map_err(Cause::from)?;
        return Ok(Told::new("", json!({})));
    }
    let mut file = ReceivedFile::begin(local)?;
    let got = client.get_file(remote, |data| file.write(data), progress).await;
    bar.finish_and_clear();
    let bytes = got.map_err(Cause::from)?;
    file.keep()?;
    let json = json!({ "remote": remote, "local": local, "bytes": bytes });
    Ok(Told::new(format!("got {bytes} bytes: {}", local.display()), json))
}
