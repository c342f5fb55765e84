//! Plays a trace again, without a guest.

use core::fmt;
use std::io::Read;

use super::{
    file::{Reader, TraceError, UNBUDGETED, UNOBSERVED, UNREFRESHED},
    script::{Script, Unlike},
    wire::{Record, Request, WireEffect, WireInput, WireOutput},
};
use crate::domain::{Domain, DomainError, Effect, Now};

/// What a trace held that was replayed to its end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Replayed {
    /// How many calls of a domain, hypercalls among them.
    pub records: u64,
    /// How many hypercalls, or parts of one.
    pub hypercalls: u64,
    /// How many accesses to guest memory.
    pub accesses: u64,
    /// How many effects.
    pub effects: u64,
}

/// Why a trace was not replayed to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It cannot be read, or is none.
    #[error(transparent)]
    Trace(TraceError),
    /// A call of a domain comes before there is one.
    #[error("record {record} is a call, but no record before it makes a domain")]
    NoDomain {
        /// Its number, counted from 0.
        record: u64,
    },
    /// The configuration of a domain is invalid.
    #[error("record {record} makes a domain with an invalid configuration")]
    Config {
        /// Its number, counted from 0.
        record: u64,
    },
    /// A domain cannot be made now, though it could be when the trace was recorded.
    #[error("the domain of record {record} cannot be made")]
    Domain {
        /// Its number, counted from 0.
        record: u64,
        /// Why not.
        #[source]
        source: DomainError,
    },
    /// The domain behaves differently now.
    #[error("the domain behaves differently from the trace")]
    Divergence(#[source] Box<Divergence>),
}

/// The first difference between a domain and a trace.
#[derive(Debug)]
pub struct Divergence {
    record: u64,
    input: WireInput,
    recorded: Option<Step>,
    replayed: Option<Step>,
}

/// Something that a domain does in a call.
#[derive(Debug, Eq, PartialEq)]
enum Step {
    Access(Request),
    Output(WireOutput),
    Effect(WireEffect),
}

impl Divergence {
    /// Returns the number of the record, counted from 0.
    #[must_use]
    pub const fn record(&self) -> u64 {
        self.record
    }
}

impl core::error::Error for Divergence {}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            record,
            input,
            recorded,
            replayed,
        } = self;
        let step = |step: &Option<Step>| match step {
            Some(step) => shortened(step),
            None => "nothing".to_owned(),
        };
        let (input, was, is) = (shortened(input), step(recorded), step(replayed));
        write!(
            f,
            "record {record}: {input}: the trace has {was}, now it is {is}"
        )
    }
}

/// Plays a trace: every call again, with what it found in guest memory then.
///
/// The time taken and the memory used grow with the length of the trace, the memory by a record at
/// a time.
///
/// # Errors
///
/// [`ReplayError`] says what the first difference is, or what is wrong with the trace.
pub fn replay(source: impl Read) -> Result<Replayed, ReplayError> {
    let mut reader = Reader::new(source).map_err(ReplayError::Trace)?;
    let mut replayed = Replayed::default();
    let version = reader.version();
    let mut domain = None;
    while let Some(record) = reader.next().map_err(ReplayError::Trace)? {
        let number = replayed.records;
        replayed.records = number.saturating_add(1);
        let is_hypercall = matches!(record.input, WireInput::Hypercall { .. });
        replayed.hypercalls = replayed.hypercalls.saturating_add(is_hypercall.into());
        let (accesses, effects) = (record.accesses.len(), record.effects.len());
        replayed.accesses = replayed.accesses.saturating_add(accesses as u64);
        replayed.effects = replayed.effects.saturating_add(effects as u64);
        play(&mut domain, version, number, record)?;
    }
    Ok(replayed)
}

fn play(
    domain: &mut Option<Domain>,
    version: u16,
    number: u64,
    record: Record,
) -> Result<(), ReplayError> {
    let Record {
        input,
        accesses,
        output,
        effects: recorded,
    } = record;
    let script = Script::new(accesses);
    let mut effects = Vec::new();
    let found = match (&input, domain.as_mut()) {
        (WireInput::New { config, now } | WireInput::NewOf { config, now, .. }, _) => {
            let xen = input.xen().ok_or(ReplayError::Config { record: number })?;
            let config = config.config(xen);
            let config = config.ok_or(ReplayError::Config { record: number })?;
            let made = Domain::new(config, &script, Now::from(*now));
            match made {
                Ok(mut made) => {
                    made.set_observes(version > UNOBSERVED);
                    made.set_refreshes(version > UNREFRESHED);
                    made.set_has_budget(version > UNBUDGETED);
                    *domain = Some(made);
                }
                // Unless it failed because it had left the trace.
                Err(source) if !script.is_lost() => {
                    let record = number;
                    return Err(ReplayError::Domain { record, source });
                }
                Err(_) => {}
            }
            WireOutput::Nothing
        }
        (input, Some(domain)) => match input.input(&script, &input.changes()) {
            Some(input) => (&domain.act(&script, &mut effects, input)).into(),
            None => WireOutput::Nothing,
        },
        (_, None) => return Err(ReplayError::NoDomain { record: number }),
    };
    let steps = unlike_access(script)
        .or_else(|| unlike(Some(Step::Output(output)), Some(Step::Output(found))))
        .or_else(|| unlike_effects(recorded, &effects));
    let Some((recorded, replayed)) = steps else {
        return Ok(());
    };
    Err(ReplayError::Divergence(Box::new(Divergence {
        record: number,
        input,
        recorded,
        replayed,
    })))
}

type Steps = (Option<Step>, Option<Step>);

fn unlike(recorded: Option<Step>, replayed: Option<Step>) -> Option<Steps> {
    (recorded != replayed).then_some((recorded, replayed))
}

fn unlike_access(script: Script) -> Option<Steps> {
    let Unlike { recorded, replayed } = script.end()?;
    Some((recorded.map(Step::Access), replayed.map(Step::Access)))
}

fn unlike_effects(recorded: Vec<WireEffect>, effects: &[Effect]) -> Option<Steps> {
    let mut replayed = effects.iter().map(WireEffect::from);
    let first = recorded.into_iter().find_map(|recorded| {
        let replayed = replayed.next().map(Step::Effect);
        unlike(Some(Step::Effect(recorded)), replayed)
    });
    first.or_else(|| unlike(None, replayed.next().map(Step::Effect)))
}

/// The start of what may be long: a page of bytes, for example.
fn shortened(value: &impl fmt::Debug) -> String {
    let whole = format!("{value:x?}");
    match whole.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", whole.get(..end).unwrap_or_default()),
        None => whole,
    }
}

/// How much is shown of one step.
const SHOWN_CHARS: usize = 200;
