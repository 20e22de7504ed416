//! What each command asks the device, and what becomes of the answer.

use std::time::Duration;

use ciborium::Value;
use futures_util::future::LocalBoxFuture;
use serde_json::json;

use super::commands::{Enumeration, Fs, Group, ImageCommand, Os, Settings, Stat, Time, Zephyr};
use super::files::{self, Terminal};
use super::prepare::Prepared;
use super::show::{self, Told, line, lines};
use crate::cause::{Cause, Class};
use crate::client::{Client, ClientError};
use crate::exit::Exit;
use crate::smp::errors::ResponseError;
use crate::smp::message::enumeration::{CountGroups, GroupDetails, ListGroups, SingleGroup};
use crate::smp::message::fs::{CloseFile, FileHash, FileHashTypes, FileStatus};
use crate::smp::message::image::{Erase, ListImages, SetState, SlotInfo};
use crate::smp::message::os::{
    ApplicationInfo, BootloaderInfo, Echo, GetDateTime, MemoryPools, Params, Reset, SetDateTime,
    TaskStatistics,
};
use crate::smp::message::raw::payload_to_json;
use crate::smp::message::settings::{
    CommitSettings, DeleteSetting, LoadSettings, ReadSetting, SaveSettings, WriteSetting,
};
use crate::smp::message::stat::{ListStatistics, ShowStatistics, Statistics};
use crate::smp::message::zephyr::EraseStorage;
use crate::smp::message::{EncodeError, Repeat, Request, decode_response};
use crate::smp::{Answer, RawRequest, group};

/// How long an erase or a hash of a file may take.
const SLOW: Duration = Duration::from_secs(40);
/// The parts of the application's information, by the letter that asks for each.
const INFORMATION: [(&str, &str); 9] = [
    ("s", "kernel name"),
    ("n", "node name"),
    ("r", "kernel release"),
    ("v", "kernel version"),
    ("b", "build date"),
    ("m", "machine"),
    ("p", "processor"),
    ("i", "hardware platform"),
    ("o", "operating system"),
];

pub(super) async fn execute(
    client: &mut Client,
    command: Prepared<'_>,
    terminal: &mut Terminal<'_>,
) -> Result<Told, Cause> {
    match command {
        Prepared::Plain(Group::Os(command)) => os(client, command).await,
        Prepared::Plain(Group::Image(command)) => image(client, command).await,
        Prepared::Plain(Group::Stat(command)) => stat(client, command).await,
        Prepared::Plain(Group::Settings(command)) => settings(client, command).await,
        Prepared::Plain(Group::Fs(command)) => fs(client, command).await,
        Prepared::Plain(Group::Shell { argv, repeat }) => shell(client, argv, *repeat).await,
        Prepared::Plain(Group::Enum(command)) => enumeration(client, command).await,
        Prepared::Plain(Group::Zephyr(Zephyr::EraseStorage)) => {
            slow(client, &EraseStorage {}).await?;
            Ok(Told::done("storage erased; what the application has in memory stays until it is reset"))
        }
        Prepared::SetTime(datetime) => {
            ask(client, &SetDateTime { datetime: datetime.clone() }).await?;
            Ok(Told::new(format!("clock set to {datetime}"), json!({ "datetime": datetime })))
        }
        Prepared::Answers => answers(client).await,
        Prepared::Upload { file, request } => files::upload(client, file, request, terminal).await,
        Prepared::SetState { hash, confirm, force } => set_state(client, hash, confirm, force).await,
        Prepared::WriteSetting { name, value } => {
            ask(client, &WriteSetting { name: name.to_owned(), val: value }).await?;
            Ok(Told::done("written; `settings save` keeps it over a reset"))
        }
        Prepared::Put { data, remote } => files::put(client, &data, &remote, terminal).await,
        Prepared::Get { remote, local } => files::get(client, remote, &local, terminal).await,
        Prepared::Raw(request) => raw(client, request).await,
        // These are prepared above.
        Prepared::Plain(Group::Raw { .. }) => Err(unprepared()),
    }
}

fn unprepared() -> Cause {
    let message = "expected a command that was prepared, got one that was not";
    Cause::new(
        Class::Internal,
        "internal.unprepared",
        message,
        "this is a defect of flashfleet: please report it",
    )
}

/// Asks, unless the server would drop the request for its length.
async fn ask<R: Request>(client: &mut Client, request: &R) -> Result<R::Response, Cause> {
    decode::<R>(&send(client, RawRequest::new(request), true, None).await?)
}

/// Asks what takes long.
async fn slow<R: Request>(client: &mut Client, request: &R) -> Result<R::Response, Cause> {
    let timeout = client.options().timeout.unwrap_or(SLOW);
    decode::<R>(&send(client, RawRequest::new(request), false, Some(timeout)).await?)
}

/// What asking has in common for all commands, in a box: the program holds it once, and not once for each of them.
fn send(
    client: &mut Client,
    request: Result<RawRequest, EncodeError>,
    must_fit: bool,
    timeout: Option<Duration>,
) -> LocalBoxFuture<'_, Result<Answer, Cause>> {
    Box::pin(async move {
        let request = request.map_err(ClientError::from)?;
        if must_fit {
            client.fits(request.message_len()).await?;
        }
        Ok(client.send(request, timeout).await?)
    })
}

fn decode<R: Request>(answer: &Answer) -> Result<R::Response, Cause> {
    answer.decode::<R>().map_err(|error| ClientError::from(error).into())
}

/// Whether the device answers, and how soon.
async fn answers(client: &mut Client) -> Result<Told, Cause> {
    let start = tokio::time::Instant::now();
    client.echo("flashfleet".to_owned()).await?;
    let ms = (start.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    Ok(Told::new(
        format!("the device answers, after {ms:.1} ms"),
        json!({ "answers": true, "round_trip_ms": ms }),
    ))
}

async fn os(client: &mut Client, command: &Os) -> Result<Told, Cause> {
    Ok(match command {
        Os::Echo { text } => {
            let text = ask(client, &Echo { d: text.clone() }).await?.r;
            Told::new(line(&text) + "\n", json!({ "text": text }))
        }
        Os::Tasks => show::tasks(&ask(client, &TaskStatistics {}).await?),
        Os::MemoryPools => show::pools(&ask(client, &MemoryPools {}).await?),
        Os::Time(Time::Get) => {
            let time = ask(client, &GetDateTime {}).await?.datetime;
            Told::new(line(&time), json!({ "datetime": time }))
        }
        Os::Time(Time::Set { .. }) => return Err(unprepared()),
        Os::Reset { force, boot_mode } => {
            ask(client, &Reset { force: force.then_some(true), boot_mode: *boot_mode }).await?;
            Told::done("the device says that it will reset")
        }
        Os::Params => {
            let params = ask(client, &Params {}).await?;
            let text = format!("{} buffers of {} bytes", params.buf_count, params.buf_size);
            Told::new(text, json!({ "buf_size": params.buf_size, "buf_count": params.buf_count }))
        }
        Os::Info { format: Some(format) } => {
            let output = ask(client, &ApplicationInfo { format: Some(format.clone()) }).await?.output;
            Told::new(line(&output), json!({ "output": output }))
        }
        Os::Info { format: None } => information(client).await?,
        Os::Bootloader { query } => bootloader(client, query.as_deref()).await?,
    })
}

/// Each part of the application's information in a line. A part that the server does not have is left out.
async fn information(client: &mut Client) -> Result<Told, Cause> {
    let mut text = String::new();
    let mut json = serde_json::Map::new();
    for (index, (letter, name)) in INFORMATION.into_iter().enumerate() {
        match client.request(&ApplicationInfo { format: Some(letter.to_owned()) }).await {
            Ok(part) => {
                text += &format!("{name:<17}  {}\n", line(&part.output));
                json.insert(name.replace(' ', "_"), part.output.into());
            }
            Err(ClientError::Device { .. }) if index > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Told::new(text, json.into()))
}

async fn bootloader(client: &mut Client, query: Option<&str>) -> Result<Told, Cause> {
    let ask_for = |query: Option<&str>| BootloaderInfo { query: query.map(str::to_owned) };
    if let Some(query) = query.filter(|query| *query != "mode") {
        let request = RawRequest::new(&ask_for(Some(query))).map_err(ClientError::from)?;
        return raw(client, request).await;
    }
    let name = ask(client, &ask_for(None)).await?.bootloader.unwrap_or_default();
    if name != "MCUboot" {
        return Ok(Told::new(line(&name), json!({ "bootloader": name })));
    }
    let told = ask(client, &ask_for(Some("mode"))).await?;
    let mode = told.mode.unwrap_or(-1);
    let no_downgrade = told.no_downgrade.unwrap_or(false);
    let mut text = format!("{name}, mode {mode}: {}", show::mode(mode));
    if no_downgrade {
        text += ", refuses older versions";
    }
    let json = json!({
        "bootloader": name,
        "mode": mode,
        "mode_name": show::mode(mode),
        "no_downgrade": no_downgrade,
    });
    Ok(Told::new(text, json))
}

async fn image(client: &mut Client, command: &ImageCommand) -> Result<Told, Cause> {
    Ok(match command {
        ImageCommand::List => show::images(&ask(client, &ListImages {}).await?),
        ImageCommand::Erase { at, slot } => {
            slow(client, &Erase { slot: at.or(*slot) }).await?;
            Told::done("erased")
        }
        ImageCommand::Slots => show::slots(&ask(client, &SlotInfo {}).await?),
        ImageCommand::Upload { .. } | ImageCommand::Test { .. } | ImageCommand::Confirm { .. } => {
            return Err(unprepared());
        }
    })
}

async fn set_state(
    client: &mut Client,
    hash: Option<Vec<u8>>,
    confirm: bool,
    force: bool,
) -> Result<Told, Cause> {
    if let Some(hash) = hash.as_ref().filter(|_| confirm && !force) {
        let images = ask(client, &ListImages {}).await?.images;
        if !images.iter().any(|slot| slot.active && slot.hash.as_ref() == Some(hash)) {
            return Err(Cause::new(
                Class::Plan,
                "cli.confirm_unproven",
                "expected the hash of the image that runs, got another: if it does not boot, nothing brings the old one back",
                "use `image test`, reset, and confirm then; or say `--force`",
            ));
        }
    }
    Ok(show::images(&slow(client, &SetState { hash, confirm }).await?))
}

async fn stat(client: &mut Client, command: &Stat) -> Result<Told, Cause> {
    Ok(match command {
        Stat::List => {
            let names = ask(client, &ListStatistics {}).await?.stat_list;
            let text: String = names.iter().map(|name| line(name) + "\n").collect();
            Told::new(text, json!({ "statistics": names }))
        }
        Stat::Show { name: Some(name) } => {
            let statistics = ask(client, &ShowStatistics { name: name.clone() }).await?;
            let json = json!({ "name": name, "fields": statistics.fields });
            Told::new(show::counts(&[(name.clone(), statistics.fields)]), json)
        }
        Stat::Show { name: None } => all_statistics(client).await?,
    })
}

/// Every entry of all statistics. Those that the device refuses, as it does where the answer would be too large, do not
/// take the others with them.
async fn all_statistics(client: &mut Client) -> Result<Told, Cause> {
    let (mut all, mut json, mut refused) = (Vec::new(), Vec::new(), String::new());
    for name in ask(client, &ListStatistics {}).await?.stat_list {
        let request = ShowStatistics { name: name.clone() };
        client.fits(RawRequest::new(&request).map_err(ClientError::from)?.message_len()).await?;
        match client.request(&request).await {
            Ok(Statistics { fields, .. }) => {
                json.push(json!({ "name": name, "fields": fields }));
                all.push((name, fields));
            }
            Err(error @ ClientError::Device { .. }) => {
                let cause = Cause::from(error);
                refused += &format!("{}: error[{}]: {}\n", line(&name), cause.code, cause.message);
                json.push(json!({ "name": name, "error": { "code": cause.code, "message": cause.message } }));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut told = Told::new(show::counts(&all) + &refused, json!({ "statistics": json }));
    if !refused.is_empty() {
        told.exit = Exit::NotPassed;
    }
    Ok(told)
}

async fn settings(client: &mut Client, command: &Settings) -> Result<Told, Cause> {
    Ok(match command {
        Settings::Read { name, max_size } => {
            let value = ask(client, &ReadSetting { name: name.clone(), max_size: *max_size }).await?;
            show::setting(name, &value.val, value.max_size)
        }
        Settings::Write { .. } => return Err(unprepared()),
        Settings::Delete { name } => {
            ask(client, &DeleteSetting { name: name.clone() }).await?;
            Told::done("deleted from the storage")
        }
        Settings::Commit => {
            ask(client, &CommitSettings {}).await?;
            Told::done("committed")
        }
        Settings::Load => {
            slow(client, &LoadSettings {}).await?;
            Told::done("loaded")
        }
        Settings::Save { name, part } => {
            slow(client, &SaveSettings { name: name.clone().or_else(|| part.clone()) }).await?;
            Told::done("saved")
        }
    })
}

async fn fs(client: &mut Client, command: &Fs) -> Result<Told, Cause> {
    Ok(match command {
        Fs::Get { .. } | Fs::Put { .. } => return Err(unprepared()),
        Fs::Status { remote } => {
            let length = ask(client, &FileStatus { name: remote.clone() }).await?.len;
            Told::new(format!("{length} bytes"), json!({ "remote": remote, "bytes": length }))
        }
        Fs::Hash { remote, kind, named, offset, length } => {
            let kind = kind.clone().or_else(|| named.clone());
            let request = FileHash { name: remote.clone(), kind, off: *offset, len: *length };
            let hash = slow(client, &request).await?;
            let text = format!("{}  {} of {} bytes", hash.output, line(&hash.kind), hash.len);
            let json = json!({
                "remote": remote,
                "type": hash.kind,
                "offset": hash.off.unwrap_or(0),
                "bytes": hash.len,
                "output": hash.output.to_string(),
            });
            Told::new(text, json)
        }
        Fs::HashTypes => {
            let types = ask(client, &FileHashTypes {}).await?.types;
            let format = |format| if format == 0 { "number" } else { "bytes" };
            let row = |(name, kind): (&str, &crate::smp::message::fs::HashType)| {
                vec![line(name), format(kind.format).to_owned(), kind.size.to_string()]
            };
            let rows: Vec<_> = types.iter().map(row).collect();
            let json: Vec<_> = types
                .iter()
                .map(
                    |(name, kind)| json!({ "name": name, "format": format(kind.format), "bytes": kind.size }),
                )
                .collect();
            Told::new(show::table(&["TYPE", "FORMAT", "BYTES"], &rows), json!({ "types": json }))
        }
        Fs::Close => {
            ask(client, &CloseFile {}).await?;
            Told::done("closed")
        }
    })
}

async fn shell(client: &mut Client, argv: &[String], repeat: bool) -> Result<Told, Cause> {
    let repeat = if repeat { Repeat::Safe } else { Repeat::Once };
    let output = client.shell(argv.to_vec(), repeat, None).await?;
    let mut told = Told::new(lines(&output.o), json!({ "output": output.o, "returned": output.ret }));
    if output.ret != 0 {
        told.text += &format!("the command returned {}\n", output.ret);
        told.exit = Exit::NotPassed;
    }
    Ok(told)
}

async fn enumeration(client: &mut Client, command: &Enumeration) -> Result<Told, Cause> {
    Ok(match command {
        Enumeration::Count => {
            let count = ask(client, &CountGroups {}).await?.count;
            Told::new(count.to_string(), json!({ "count": count }))
        }
        Enumeration::List => {
            let groups = ask(client, &ListGroups {}).await?.groups;
            let text: String = groups.iter().map(|group| format!("{group}{}\n", known(*group))).collect();
            Told::new(text, json!({ "groups": groups }))
        }
        Enumeration::Show { index } => {
            let single = ask(client, &SingleGroup { index: Some(*index) }).await?;
            let last = if single.end { ", the last one" } else { "" };
            let text = format!("{}{}{last}", single.group, known(single.group));
            Told::new(text, json!({ "index": index, "group": single.group, "end": single.end }))
        }
        Enumeration::Details { groups } => {
            let groups = (!groups.is_empty()).then(|| groups.clone());
            let details = ask(client, &GroupDetails { groups }).await?;
            let dash = || "-".to_owned();
            let rows: Vec<_> = details
                .groups
                .iter()
                .map(|group| {
                    vec![
                        group.group.to_string(),
                        group.name.as_deref().map_or_else(dash, line),
                        group.handlers.map_or_else(dash, |count| count.to_string()),
                    ]
                })
                .collect();
            // No field of it holds bytes, so that its own form is JSON's too.
            let json = serde_json::to_value(&details).unwrap_or_default();
            Told::new(show::table(&["GROUP", "NAME", "COMMANDS"], &rows), json)
        }
    })
}

/// The name under which this command knows a group.
fn known(number: u16) -> &'static str {
    match number {
        group::OS => "  os",
        group::IMAGE => "  image",
        group::STAT => "  stat",
        group::SETTINGS => "  settings",
        group::FS => "  fs",
        group::SHELL => "  shell",
        group::ENUM => "  enum",
        group::ZEPHYR => "  zephyr",
        _ => "",
    }
}

async fn raw(client: &mut Client, request: RawRequest) -> Result<Told, Cause> {
    client.fits(request.message_len()).await?;
    let answer = client.send(request, None).await?;
    let told = decode_response::<Value>(&answer.payload).and_then(|_| payload_to_json(&answer.payload));
    let json = told.map_err(|source| Cause::from(ResponseError { request: answer.request, source }))?;
    Ok(Told::new(format!("{json:#}"), json))
}
