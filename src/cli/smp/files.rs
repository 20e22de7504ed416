//! The commands that move much: image upload, file put and get, with their progress on standard error.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::show::Told;
use crate::cause::Cause;
use crate::client::{Client, ReceivedFile, UploadRequest};
use crate::image::Image;

/// Drawn at most this often per second.
const REFRESH_HZ: u8 = 10;

/// A bar on standard error; nothing where that is no terminal.
fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(REFRESH_HZ));
    let template = "[{wide_bar}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta}";
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

pub(super) async fn upload(
    client: &mut Client,
    image: &Image,
    request: UploadRequest,
) -> Result<Told, Cause> {
    let bar = bar(image.bytes().len() as u64);
    let progress = {
        let bar = bar.clone();
        move |done, _total| bar.set_position(done)
    };
    let bytes = Arc::clone(image.bytes());
    let uploaded = client.upload(bytes, *image.file_sha256(), image.hash(), request, progress).await;
    bar.finish_and_clear();
    let uploaded = uploaded.map_err(Cause::from)?;
    let figures = &uploaded.figures;
    let mut text = format!(
        "uploaded {} bytes in {:.1} s, {:.0} bytes/s: {}\n",
        figures.bytes,
        figures.duration_s,
        figures.bytes_per_s,
        hex::encode(image.hash())
    );
    for note in &uploaded.notes {
        text += &format!("note: {note}\n");
    }
    let json = json!({
        "hash": hex::encode(image.hash()),
        "version": image.version(),
        "bytes": figures.bytes,
        "duration_s": figures.duration_s,
        "bytes_per_s": figures.bytes_per_s,
        "resent": figures.resent,
        "notes": uploaded.notes,
    });
    Ok(Told::new(text, json))
}

pub(super) async fn put(client: &mut Client, data: &[u8], remote: &str) -> Result<Told, Cause> {
    let bar = bar(data.len() as u64);
    let put = client.put_file(remote, data, |done| bar.set_position(done)).await;
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
    out: &mut dyn Write,
) -> Result<Told, Cause> {
    let bar = bar(0);
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    if local == Path::new("-") {
        let got = client.get_file(remote, |data| out.write_all(data), progress).await;
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
