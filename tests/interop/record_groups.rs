//! Records the groups besides OS and image, as a native_sim server has them: what each command answers that can be the
//! same on any server, and every error that a request can bring about. And what the smallest server says to questions whose
//! answers do not fit it.

use ciborium::Value as Cbor;

use crate::error::Result;
use crate::native::SerialServer;
use crate::record::{OS, READ, Recorder, WRITE};
use crate::wire::Wire;

const STAT: u16 = 2;
const SETTINGS: u16 = 3;
const FS: u16 = 8;
const SHELL: u16 = 9;
const ENUM: u16 = 10;
const ZEPHYR: u16 = 63;

fn text(text: impl Into<String>) -> Cbor {
    Cbor::Text(text.into())
}

fn bytes(length: usize) -> Cbor {
    Cbor::Bytes((0..length).map(|at| at.to_le_bytes()[0]).collect())
}

impl Recorder {
    fn statistics_group(&mut self) -> Result<()> {
        self.both("names of the statistics", READ, STAT, 1, &[])?;
        self.both("statistics without a name", READ, STAT, 0, &[])?;
        self.both("statistics of an unknown name", READ, STAT, 0, &[("name", text("none"))])?;
        self.both("statistics, name is a number", READ, STAT, 0, &[("name", 1.into())])?;
        self.both(
            "statistics, a name as long as it may be",
            READ,
            STAT,
            0,
            &[("name", text("n".repeat(31)))],
        )?;
        self.both("statistics, a longer name", READ, STAT, 0, &[("name", text("n".repeat(32)))])?;
        self.both("statistics, a much longer name", READ, STAT, 0, &[("name", text("n".repeat(100)))])?;
        self.both("statistics as a write", WRITE, STAT, 0, &[])
    }

    /// The server has no settings of its own: what a name says matters only where it is none.
    fn settings_group(&mut self) -> Result<()> {
        for (note, op, command) in [("read", READ, 0), ("write", WRITE, 0), ("delete", WRITE, 1)] {
            self.both(&format!("{note} a setting without a name"), op, SETTINGS, command, &[])?;
            let name = [("name", text(""))];
            self.both(&format!("{note} a setting of an empty name"), op, SETTINGS, command, &name)?;
            let name = [("name", 1.into())];
            self.both(&format!("{note} a setting, name is a number"), op, SETTINGS, command, &name)?;
            let name = [("name", text("n".repeat(32)))];
            self.both(&format!("{note} a setting, name too long"), op, SETTINGS, command, &name)?;
        }
        let wrong = [("name", text("a/b")), ("max_size", text("1"))];
        self.both("read a setting, size is a text", READ, SETTINGS, 0, &wrong)?;
        let wrong = [("name", text("a/b")), ("val", text("1"))];
        self.both("write a setting, value is a text", WRITE, SETTINGS, 0, &wrong)?;
        self.both("delete as a read", READ, SETTINGS, 1, &[])?;
        self.both("commit", WRITE, SETTINGS, 2, &[])?;
        self.both("commit as a read", READ, SETTINGS, 2, &[])?;
        self.both("load", READ, SETTINGS, 3, &[])
    }

    fn upload_piece(
        &mut self,
        note: &str,
        name: &str,
        off: u64,
        length: usize,
        len: Option<u64>,
    ) -> Result<()> {
        let mut body = vec![("off", Cbor::from(off)), ("name", text(name)), ("data", bytes(length))];
        body.extend(len.map(|len| ("len", Cbor::from(len))));
        self.ask(note, WRITE, 1, FS, 0, &body)
    }

    fn file_group(&mut self) -> Result<()> {
        let name = |name: &str| [("name", text(name))];
        for (note, path) in [
            ("a file that is not there", "/lfs1/none"),
            ("a folder", "/lfs1"),
            ("a folder, with a slash", "/lfs1/"),
            ("another file system", "/none/a"),
            ("a relative path", "a"),
            ("an empty path", ""),
            ("a path in a file's place", "/lfs1/none/a"),
        ] {
            self.both(&format!("status of {note}"), READ, FS, 1, &name(path))?;
            let get = [("off", 0.into()), ("name", text(path))];
            self.both(&format!("download of {note}"), READ, FS, 0, &get)?;
            self.both(&format!("hash of {note}"), READ, FS, 2, &name(path))?;
            let put = [("off", 0.into()), ("len", 1.into()), ("name", text(path)), ("data", bytes(1))];
            // The rest would make the file.
            if !path.starts_with("/lfs1/none") || path.ends_with("none/a") {
                self.both(&format!("upload to {note}"), WRITE, FS, 0, &put)?;
            }
        }
        self.both("status without a path", READ, FS, 1, &[])?;
        for length in [64, 65] {
            let path = format!("/lfs1/{}", "p".repeat(length - 6));
            self.both(&format!("status of a path of {length} bytes"), READ, FS, 1, &name(&path))?;
        }
        self.both("status as a write", WRITE, FS, 1, &name("/lfs1/none"))?;
        self.both("types of hashes", READ, FS, 3, &[])?;
        self.both("close where nothing is open", WRITE, FS, 4, &[])?;
        self.both("close as a read", READ, FS, 4, &[])?;

        self.both("upload without an offset", WRITE, FS, 0, &name("/lfs1/f"))?;
        self.upload_piece("first piece without the length", "/lfs1/f", 0, 4, None)?;
        self.upload_piece("first piece", "/lfs1/f", 0, 100, Some(250))?;
        self.upload_piece("a piece further on", "/lfs1/f", 150, 50, None)?;
        self.both("status after that", READ, FS, 1, &name("/lfs1/f"))?;
        self.upload_piece("the second piece", "/lfs1/f", 100, 100, None)?;
        self.upload_piece("the second piece again", "/lfs1/f", 100, 100, None)?;
        self.upload_piece("the third piece, not up to the length", "/lfs1/f", 200, 40, None)?;
        self.ask("close", WRITE, 1, FS, 4, &[])?;
        self.both("status of it", READ, FS, 1, &name("/lfs1/f"))?;
        for off in [0, 100, 239, 240, 5000] {
            let get = [("off", off.into()), ("name", text("/lfs1/f"))];
            self.both(&format!("download from byte {off}"), READ, FS, 0, &get)?;
        }
        let get = [("name", text("/lfs1/f"))];
        self.both("download without an offset", READ, FS, 0, &get)?;

        let hash = |more: &[(&'static str, Cbor)]| [&[("name", text("/lfs1/f"))], more].concat();
        self.both("hash", READ, FS, 2, &hash(&[]))?;
        for kind in ["crc32", "sha256", "md5", "", "longer than 8"] {
            self.both(&format!("hash of type {kind:?}"), READ, FS, 2, &hash(&[("type", text(kind))]))?;
        }
        self.both("hash from byte 100", READ, FS, 2, &hash(&[("off", 100.into())]))?;
        self.both("hash from the last byte", READ, FS, 2, &hash(&[("off", 239.into())]))?;
        self.both("hash from behind it", READ, FS, 2, &hash(&[("off", 240.into())]))?;
        self.both("hash of no bytes", READ, FS, 2, &hash(&[("len", 0.into())]))?;
        self.both("hash of one byte", READ, FS, 2, &hash(&[("len", 1.into())]))?;
        self.both("hash of more than there is", READ, FS, 2, &hash(&[("len", 1000.into())]))?;

        self.upload_piece("a file that replaces it", "/lfs1/f", 0, 30, Some(90))?;
        self.upload_piece("its first piece again", "/lfs1/f", 0, 30, Some(90))?;
        self.both("status while it is open", READ, FS, 1, &name("/lfs1/f"))?;
        self.upload_piece("another file meanwhile", "/lfs1/g", 0, 10, Some(10))?;
        self.both("status of the first one", READ, FS, 1, &name("/lfs1/f"))?;
        self.upload_piece("its next piece, as if nothing had been", "/lfs1/f", 30, 30, None)?;
        self.ask("close", WRITE, 1, FS, 4, &[])?;
        self.both("status at last", READ, FS, 1, &name("/lfs1/f"))?;
        self.both("hash at last", READ, FS, 2, &name("/lfs1/f"))?;

        self.upload_piece("an empty file", "/lfs1/e", 0, 0, Some(0))?;
        self.ask("close", WRITE, 1, FS, 4, &[])?;
        self.both("status of an empty file", READ, FS, 1, &name("/lfs1/e"))?;
        self.both("hash of an empty file", READ, FS, 2, &name("/lfs1/e"))?;
        let get = [("off", 0.into()), ("name", text("/lfs1/e"))];
        self.both("download of an empty file", READ, FS, 0, &get)
    }

    fn shell_group(&mut self) -> Result<()> {
        let argv = |argv: &[&str]| [("argv", Cbor::Array(argv.iter().map(|word| text(*word)).collect()))];
        self.both("kernel version", WRITE, SHELL, 0, &argv(&["kernel", "version"]))?;
        self.both("an unknown command", WRITE, SHELL, 0, &argv(&["nonsense"]))?;
        self.both("no command", WRITE, SHELL, 0, &argv(&[]))?;
        self.both("an empty word", WRITE, SHELL, 0, &argv(&[""]))?;
        self.both("without argv", WRITE, SHELL, 0, &[])?;
        self.both("argv is a text", WRITE, SHELL, 0, &[("argv", text("kernel version"))])?;
        self.both("argv holds a number", WRITE, SHELL, 0, &[("argv", Cbor::Array(vec![1.into()]))])?;
        self.both("a command that is too long", WRITE, SHELL, 0, &argv(&[&"x".repeat(300)]))?;
        self.both("shell as a read", READ, SHELL, 0, &argv(&["kernel", "version"]))
    }

    fn enumeration_group(&mut self) -> Result<()> {
        self.both("count of groups", READ, ENUM, 0, &[])?;
        self.both("list of groups", READ, ENUM, 1, &[])?;
        self.both("the first group", READ, ENUM, 2, &[])?;
        for index in [0, 3, 6, 7, 65_535, 65_536] {
            self.both(&format!("group {index}"), READ, ENUM, 2, &[("index", index.into())])?;
        }
        self.both("group, index is a text", READ, ENUM, 2, &[("index", text("1"))])?;
        self.both("details", READ, ENUM, 3, &[])?;
        let groups =
            |groups: &[u32]| [("groups", Cbor::Array(groups.iter().map(|group| (*group).into()).collect()))];
        self.both("details of two", READ, ENUM, 3, &groups(&[8, 0]))?;
        self.both("details of one that it does not have", READ, ENUM, 3, &groups(&[60]))?;
        self.both("details of none", READ, ENUM, 3, &groups(&[]))?;
        self.both("details of a number that is no group", READ, ENUM, 3, &groups(&[70_000]))?;
        self.both("details as a write", WRITE, ENUM, 3, &[])
    }
}

#[test]
#[ignore = "writes the transcripts again"]
fn record_native_groups() -> Result<()> {
    let server = SerialServer::start("serial")?;
    let mut recorder = Recorder::new("native_groups", Wire::terminal(server.terminal())?, server.server);
    for letters in ["z", "sz", ""] {
        recorder.both(&format!("information {letters:?}"), READ, OS, 7, &[("format", text(letters))])?;
    }
    recorder.both("information, format is a number", READ, OS, 7, &[("format", 1.into())])?;
    recorder.statistics_group()?;
    recorder.settings_group()?;
    recorder.file_group()?;
    recorder.shell_group()?;
    recorder.enumeration_group()?;
    recorder.both("erase the storage as a read", READ, ZEPHYR, 0, &[])?;
    recorder.ask("erase the storage", WRITE, 1, ZEPHYR, 0, &[])?;
    recorder.save()
}

#[test]
#[ignore = "writes the transcripts again"]
fn record_native_answers_that_do_not_fit() -> Result<()> {
    let server = SerialServer::start("serial_buf96")?;
    let mut recorder = Recorder::new("native_small", Wire::terminal(server.terminal())?, server.server);
    recorder.both("tasks", READ, OS, 2, &[])?;
    recorder.both("all information", READ, OS, 7, &[("format", text("a"))])?;
    recorder.both("details of all groups", READ, ENUM, 3, &[])?;
    recorder.both("list of groups", READ, ENUM, 1, &[])?;
    let echo = [("d", text("x".repeat(75)))];
    recorder.both("echo of all that goes into a message", WRITE, OS, 0, &echo)?;
    recorder.save()
}
