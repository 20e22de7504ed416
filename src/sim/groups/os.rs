//! OS group, after Zephyr `grp/os_mgmt/src/os_mgmt.c`.

use super::{Answer, Body, Effects, Refused, SmpError};
use crate::sim::spec::SimSpec;
use crate::smp::{Op, group};

/// `OS_MGMT_ERR_QUERY_YIELDS_NO_ANSWER`.
const QUERY_YIELDS_NO_ANSWER: u32 = 3;
/// `OS_MGMT_ERR_INVALID_FORMAT`.
const INVALID_FORMAT: u32 = 2;
/// `OS_MGMT_ERR_RTC_NOT_SET`.
const RTC_NOT_SET: u32 = 4;

/// Name, priority, state, stack size and stack use of each simulated thread; the stack in words of 4 bytes, as the server
/// counts. The priority of a cooperative thread is sent as 32 bits without a sign.
const TASKS: [(&str, u32, u32, u64, u64); 2] = [("sysworkq", u32::MAX, 2, 256, 58), ("idle", 15, 0, 64, 16)];

/// The real-time clock. It stands still: the server has no time.
#[derive(Debug, Default)]
pub(in crate::sim) struct Clock(Option<String>);

impl Clock {
    /// Takes a time in the form `yyyy-MM-ddTHH:mm:ss`; whatever follows is left out.
    fn set(&mut self, text: &str) -> Result<(), SmpError> {
        let parts: Vec<&str> = text.split('.').next().unwrap_or_default().split(['-', 'T', ':']).collect();
        let numbers: Vec<u32> = parts.iter().map_while(|part| part.parse().ok()).collect();
        let &[year, month, day, hour, minute, second] = &numbers[..] else { return Err(SmpError::Invalid) };
        let fits = (1900..=11_899).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !fits {
            return Err(SmpError::Invalid);
        }
        self.0 = Some(format!("{year:4}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"));
        Ok(())
    }
}

/// Everything that the information command tells, in its order.
fn information(spec: &SimSpec, format: &str) -> Result<String, Refused> {
    let parts = [
        ('s', "Zephyr"),
        ('n', spec.name.as_str()),
        ('r', "v4.4.0"),
        ('v', "4.4.0"),
        ('b', "Wed Nov 25 12:00:00 2026"),
        ('m', "simulated"),
        ('p', "none"),
        ('i', "flashfleet_sim"),
        ('o', "Zephyr"),
    ];
    let known = |letter| letter == 'a' || parts.iter().any(|(known, _)| *known == letter);
    if !format.chars().all(known) {
        return Err(Refused::Group { group: group::OS, rc: INVALID_FORMAT, reason: None });
    }
    let format = if format.is_empty() { "s" } else { format };
    let wanted = |letter: char| format.contains(letter) || format.contains('a');
    let told: Vec<&str> = parts.iter().filter(|(letter, _)| wanted(*letter)).map(|(_, text)| *text).collect();
    Ok(told.join(" "))
}

fn tasks(answer: &mut Answer) {
    answer.map("tasks");
    for (number, (name, priority, state, size, used)) in TASKS.into_iter().enumerate() {
        answer.map(name);
        answer.number("prio", priority.into());
        answer.number("tid", number as u64);
        answer.number("state", state.into());
        answer.number("stksiz", size);
        answer.number("stkuse", used);
        for unsupported in ["runtime", "cswcnt", "last_checkin", "next_checkin"] {
            answer.number(unsupported, 0);
        }
        answer.close();
    }
    answer.close();
}

/// As `smp_group_0.rst` has it; Zephyr's server does not have the command.
fn memory_pools(spec: &SimSpec, answer: &mut Answer) {
    answer.map("netbuf");
    answer.number("blksiz", spec.buf_size.into());
    answer.number("nblks", spec.buf_count.into());
    // One holds the request, and its answer goes into another.
    answer.number("nfree", u64::from(spec.buf_count).saturating_sub(2));
    answer.number("min", 0);
    answer.close();
}

/// A request to the OS group.
pub(in crate::sim) fn os(
    spec: &SimSpec,
    clock: &mut Clock,
    (op, command): (Op, u8),
    payload: &[u8],
    answer: &mut Answer,
) -> Result<Effects, Refused> {
    match (op, command) {
        (Op::Read | Op::Write, 0) => {
            let text = Body::read(payload)?.text("d")?.unwrap_or_default();
            answer.text("r", &text);
        }
        (Op::Read, 2) => tasks(answer),
        (Op::Read, 3) if spec.memory_pools => memory_pools(spec, answer),
        (Op::Read, 4) => match &clock.0 {
            Some(time) => answer.text("datetime", time),
            None => return Err(Refused::Group { group: group::OS, rc: RTC_NOT_SET, reason: None }),
        },
        (Op::Write, 4) => {
            let time = Body::read(payload)?.text("datetime")?.unwrap_or_default();
            clock.set(&time)?;
        }
        (Op::Read, 7) => {
            let format = Body::read(payload)?.text("format")?.unwrap_or_default();
            answer.text("output", &information(spec, &format)?);
        }
        // A core command: what cannot be read is ignored.
        (Op::Write, 5) => {
            let mode = Body::read(payload).ok().and_then(|body| body.u32("boot_mode").ok().flatten());
            let boot_mode = mode.and_then(|mode| u8::try_from(mode).ok());
            return Ok(Effects { reset: true, boot_mode, ..Effects::default() });
        }
        (Op::Read, 6) if spec.params => {
            answer.number("buf_size", spec.buf_size.into());
            answer.number("buf_count", spec.buf_count.into());
        }
        (Op::Read, 8) if spec.bootloader_info => {
            let query = Body::read(payload)?.text("query")?;
            match query.as_deref() {
                None => answer.text("bootloader", "MCUboot"),
                Some("mode") => {
                    answer.signed("mode", spec.mode.number());
                    if spec.no_downgrade {
                        answer.bool("no-downgrade", true);
                    }
                }
                // The group's number, but given as an error of SMP itself, in both protocol versions.
                Some(_) => return Err(Refused::Smp(QUERY_YIELDS_NO_ANSWER)),
            }
        }
        _ => return Err(SmpError::NotSupported.into()),
    }
    Ok(Effects::default())
}
