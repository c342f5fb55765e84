//! Reads one line of a report; an error names the expected part.

use std::collections::BTreeMap;

use pvh_abi::{Gpa, start_info::MemmapKind};

use super::{Check, Exception, MemoryRange, Module, Outcome, Report, Sums, Text, Verdict};

/// Adds the content of a line to the report.
pub(super) fn read(report: &mut Report, text: &str) -> Result<(), &'static str> {
    if let Some(check) = text.strip_prefix("check ") {
        report.checks.push(check_line(check)?);
        return Ok(());
    }
    let Some((key, value)) = text.split_once(": ") else {
        return Ok(());
    };
    match key {
        "registers" => report.registers.append(&mut fields(value)?),
        "start info" => report.start_info.append(&mut fields(value)?),
        "command line" => report.cmdline = string(value)?,
        "memory" => report.memory.push(memory(value)?),
        "module" => report.modules.push(module(value)?),
        "exception" => report.exceptions.push(exception(value)?),
        "power off" => report.power_off.push(value.to_owned()),
        "PVH demo" => report.verdict = verdict(value)?.or(report.verdict),
        _ => {}
    }
    Ok(())
}

fn check_line(text: &str) -> Result<Check, &'static str> {
    let wanted = "the outcome of a check";
    let (outcome, clause) = text.split_once(": ").ok_or(wanted)?;
    let outcome = match outcome {
        "ok" => Outcome::Ok,
        "failed" => Outcome::Failed,
        "skipped" => Outcome::Skipped,
        _ => return Err(wanted),
    };
    let clause = clause.to_owned();
    Ok(Check { outcome, clause })
}

fn memory(text: &str) -> Result<MemoryRange, &'static str> {
    let fields = fields(text)?;
    Ok(MemoryRange {
        start: Gpa(field(&fields, "start")?),
        len_bytes: field(&fields, "size")?,
        kind: MemmapKind(narrow(field(&fields, "type")?)?),
    })
}

fn module(text: &str) -> Result<Module, &'static str> {
    let (numbers, cmdline) = text.split_once(" cmdline=").ok_or("cmdline")?;
    let fields = fields(numbers)?;
    let sums = match fields.contains_key("head_sum") {
        false => None,
        true => Some(Sums {
            head: narrow(field(&fields, "head_sum")?)?,
            tail: narrow(field(&fields, "tail_sum")?)?,
        }),
    };
    Ok(Module {
        start: Gpa(field(&fields, "start")?),
        len_bytes: field(&fields, "size")?,
        sums,
        cmdline: string(cmdline)?,
    })
}

fn exception(text: &str) -> Result<Exception, &'static str> {
    let fields = fields(text)?;
    let vector = u8::try_from(field(&fields, "vector")?);
    Ok(Exception {
        vector: vector.map_err(|_| "an 8-bit number")?,
        error: narrow(field(&fields, "error")?)?,
        eip: narrow(field(&fields, "eip")?)?,
    })
}

/// Reads the final verdict; `None` if the line is something else.
fn verdict(text: &str) -> Result<Option<Verdict>, &'static str> {
    if text == "ok" {
        return Ok(Some(Verdict::Ok));
    }
    let Some(count) = text.strip_prefix("failed checks: ") else {
        return Ok(None);
    };
    let count = count.parse().map_err(|_| "the number of failed checks")?;
    Ok(Some(Verdict::Failed(count)))
}

/// Reads `name=0x... name=0x...`.
fn fields(text: &str) -> Result<BTreeMap<String, u64>, &'static str> {
    let pair = |word: &str| {
        let (name, value) = word.split_once('=').ok_or("name=value")?;
        let digits = value.strip_prefix("0x").ok_or(HEX)?;
        let value = u64::from_str_radix(digits, 16).map_err(|_| HEX)?;
        Ok((name.to_owned(), value))
    };
    text.split_whitespace().map(pair).collect()
}

fn field(fields: &BTreeMap<String, u64>, name: &'static str) -> Result<u64, &'static str> {
    fields.get(name).copied().ok_or(name)
}

fn narrow(value: u64) -> Result<u32, &'static str> {
    u32::try_from(value).map_err(|_| "a 32-bit number")
}

/// Reads `none`, `out of reach`, or a string in quotes; three dots after it mean that it was cut.
fn string(text: &str) -> Result<Option<Text>, &'static str> {
    if text == "none" || text == "out of reach" {
        return Ok(None);
    }
    let (text, cut) = match text.strip_suffix("...") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let quoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let mut rest = quoted.ok_or("a string in quotes")?;
    let mut bytes = Vec::new();
    while let Some((plain, escape)) = rest.split_once("\\x") {
        let digits = escape.get(..2).ok_or(ESCAPE)?;
        bytes.extend_from_slice(plain.as_bytes());
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| ESCAPE)?);
        rest = escape.get(2..).ok_or(ESCAPE)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(Some(Text { bytes, cut }))
}

const HEX: &str = "a hexadecimal number";
const ESCAPE: &str = "an escaped byte";
