//! How answers are told to people and to programs. Texts from a device are escaped where they would move the cursor.

use serde_json::{Value, json};

use crate::exit::Exit;
use crate::smp::message::Entries;
use crate::smp::message::image::{ImageState, SlotInfoResponse};
use crate::smp::message::os::{MemoryPoolsResponse, TaskStatisticsResponse};

/// What a command says.
#[derive(Debug)]
pub(super) struct Told {
    /// For people, with its last newline.
    pub(super) text: String,
    /// For programs.
    pub(super) json: Value,
    /// How the program ends.
    pub(super) exit: Exit,
}

impl Told {
    /// A success.
    pub(super) fn new(text: impl Into<String>, json: Value) -> Self {
        let mut text = text.into();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Self { text, json, exit: Exit::Passed }
    }

    /// A success with nothing to tell but that it is one.
    pub(super) fn done(text: &str) -> Self {
        Self::new(text, json!({}))
    }
}

/// A text from a device on one line, safe to show.
pub(super) fn line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// A text from a device that may have several lines, safe to show: without colours, and without the empty lines that
/// shells begin and end with.
pub(super) fn lines(text: &str) -> String {
    let text = console::strip_ansi_codes(text);
    text.trim_matches(['\r', '\n']).lines().map(|text| line(&text.replace('\t', "    ")) + "\n").collect()
}

/// Rows below a head, in columns as wide as needed.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let show = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = show(head.to_vec());
    text.extend(rows.iter().map(|row| show(row.iter().map(String::as_str).collect())));
    text
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

pub(super) fn tasks(response: &TaskStatisticsResponse) -> Told {
    let rows: Vec<_> = response
        .tasks
        .iter()
        .map(|(name, task)| {
            vec![
                line(name),
                task.tid.to_string(),
                task.priority().to_string(),
                format!("{:#04x}", task.state),
                number(task.stack_used_bytes()),
                number(task.stack_size_bytes()),
                number(task.runtime),
            ]
        })
        .collect();
    let json: Vec<_> = response
        .tasks
        .iter()
        .map(|(name, task)| {
            json!({
                "name": name,
                "tid": task.tid,
                "priority": task.priority(),
                "state": task.state,
                "stack_used_bytes": task.stack_used_bytes(),
                "stack_size_bytes": task.stack_size_bytes(),
                "context_switches": task.cswcnt,
                "runtime": task.runtime,
            })
        })
        .collect();
    let head = ["TASK", "ID", "PRIORITY", "STATE", "STACK USED", "STACK SIZE", "RUN TIME"];
    Told::new(table(&head, &rows), json!({ "tasks": json }))
}

pub(super) fn pools(response: &MemoryPoolsResponse) -> Told {
    let figures = |(name, pool): (&str, &crate::smp::message::os::MemoryPool)| {
        let figures = [pool.blksiz, pool.nblks, pool.nfree, pool.min];
        std::iter::once(line(name)).chain(figures.iter().map(u64::to_string)).collect::<Vec<_>>()
    };
    let rows: Vec<_> = response.pools.iter().map(figures).collect();
    let json: Vec<_> = response
        .pools
        .iter()
        .map(|(name, pool)| {
            json!({
                "name": name,
                "block_bytes": pool.blksiz,
                "blocks": pool.nblks,
                "free": pool.nfree,
                "lowest_free": pool.min,
            })
        })
        .collect();
    let head = ["POOL", "BLOCK BYTES", "BLOCKS", "FREE", "LOWEST FREE"];
    Told::new(table(&head, &rows), json!({ "pools": json }))
}

/// Entries of statistics.
pub(super) fn counts(statistics: &[(String, Entries<u64>)]) -> String {
    let rows: Vec<_> = statistics
        .iter()
        .flat_map(|(name, fields)| {
            fields.iter().map(|(entry, count)| vec![line(name), line(entry), count.to_string()])
        })
        .collect();
    table(&["STATISTICS", "ENTRY", "COUNT"], &rows)
}

pub(super) fn images(state: &ImageState) -> Told {
    let flags = |slot: &crate::smp::message::image::ImageSlot| {
        let all = [
            (slot.active, "active"),
            (slot.confirmed, "confirmed"),
            (slot.pending, "pending"),
            (slot.permanent, "permanent"),
            (slot.bootable, "bootable"),
            (slot.compressed, "compressed"),
        ];
        all.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
    };
    let hash = |hash: &Option<Vec<u8>>| hash.as_ref().map(hex::encode);
    let rows: Vec<_> = state
        .images
        .iter()
        .map(|slot| {
            vec![
                slot.image.to_string(),
                slot.slot.to_string(),
                line(&slot.version),
                flags(slot),
                hash(&slot.hash).unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let json: Vec<_> = state
        .images
        .iter()
        .map(|slot| {
            json!({
                "image": slot.image,
                "slot": slot.slot,
                "version": slot.version,
                "hash": hash(&slot.hash),
                "active": slot.active,
                "confirmed": slot.confirmed,
                "pending": slot.pending,
                "permanent": slot.permanent,
                "bootable": slot.bootable,
                "compressed": slot.compressed,
            })
        })
        .collect();
    Told::new(table(&["IMAGE", "SLOT", "VERSION", "FLAGS", "HASH"], &rows), json!({ "images": json }))
}

pub(super) fn slots(response: &SlotInfoResponse) -> Told {
    let rows: Vec<_> = response
        .images
        .iter()
        .flat_map(|image| {
            image.slots.iter().map(|slot| {
                vec![
                    image.image.to_string(),
                    slot.slot.to_string(),
                    number(slot.size),
                    number(slot.upload_image_id.map(u64::from)),
                    number(image.max_image_size),
                ]
            })
        })
        .collect();
    let head = ["IMAGE", "SLOT", "BYTES", "UPLOAD AS IMAGE", "LARGEST IMAGE"];
    // No field of it holds bytes, so that its own form is JSON's too.
    let json = serde_json::to_value(response).unwrap_or_default();
    Told::new(table(&head, &rows), json)
}

/// A setting's value: in hexadecimal, and as what it may be.
pub(super) fn setting(name: &str, value: &[u8], limit: Option<u32>) -> Told {
    let text = std::str::from_utf8(value).ok().filter(|text| !text.chars().any(char::is_control));
    let number = match value.len() {
        1 | 2 | 4 | 8 => {
            let mut bytes = [0; 8];
            bytes.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
            Some(u64::from_le_bytes(bytes))
        }
        _ => None,
    };
    let mut told = format!("{}  ({} bytes", hex::encode(value), value.len());
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        told += &format!(", text {text:?}");
    }
    if let Some(number) = number {
        told += &format!(", number {number}");
    }
    told += ")";
    if let Some(limit) = limit {
        told += &format!("\nthe device sends at most {limit} bytes: there may be more");
    }
    let json =
        json!({ "name": name, "hex": hex::encode(value), "text": text, "number": number, "max_size": limit });
    Told::new(told, json)
}

/// The name of MCUboot's mode (`smp_group_0.rst`, "MCUboot mode"; Zephyr `enum mcuboot_mode`).
pub(super) fn mode(mode: i32) -> &'static str {
    match mode {
        0 => "single slot",
        1 => "swap using scratch",
        2 => "overwrite only",
        3 => "swap using move",
        4 => "direct XIP",
        5 => "direct XIP with revert",
        6 => "RAM load",
        7 => "firmware loader",
        8 => "single slot, RAM load",
        9 => "swap using offset",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_move_the_cursor_is_escaped() {
        assert_eq!(line("\x1b[31mred\n"), "\\u{1b}[31mred\\n");
        assert_eq!(lines("\r\n\x1b[1;31mred\x1b[m\r\n"), "red\n");
        assert_eq!(lines("a\r\nb\x07\tc"), "a\nb\\u{7}    c\n");
    }

    #[test]
    fn tables_are_as_wide_as_they_need() {
        let rows = [vec!["longer".to_owned(), "1".to_owned()], vec!["x".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["A", "NUMBER"], &rows), "A       NUMBER\nlonger  1\nx       22\n");
    }

    #[test]
    fn settings_are_shown_as_what_they_may_be() {
        assert_eq!(setting("a", &[2, 1], None).text, "0201  (2 bytes, number 258)\n");
        assert_eq!(setting("a", b"hello", None).text, "68656c6c6f  (5 bytes, text \"hello\")\n");
        assert_eq!(setting("a", &[], Some(32)).json["max_size"], 32);
    }
}
