//! Makes a call of a domain, and a record of it.

use pvh_memory::Frames;

use super::{
    recorder::Recorder,
    tap::{Accesses, IoTap, MemoryTap},
    wire::{Record, WireEffect, WireInput, WireOutput},
};
use crate::domain::{Config, Domain, DomainError, Effect, Input, Now, Origin, Output};

/// Makes a domain, and a record of its making if that succeeds.
pub(crate) fn record_new(
    recorder: &Recorder,
    config: Config,
    memory: &dyn Frames,
    now: Now,
) -> Result<Domain, DomainError> {
    let input = WireInput::of_domain(&config, now);
    let accesses = Accesses::default();
    let tap = MemoryTap {
        memory,
        accesses: &accesses,
    };
    let domain = Domain::new(config, &tap, now)?;
    recorder.write(&Record {
        input,
        accesses: accesses.into_inner(),
        output: WireOutput::Nothing,
        effects: Vec::new(),
    });
    Ok(domain)
}

/// Has a domain do what an input says, and makes a record of it.
pub(crate) fn record(
    recorder: &Recorder,
    domain: &mut Domain,
    memory: &dyn Frames,
    effects: &mut Vec<Effect>,
    input: Input<'_>,
) -> Output {
    let accesses = Accesses::default();
    let tap = MemoryTap {
        memory,
        accesses: &accesses,
    };
    let before = effects.len();
    let output = match input {
        Input::Hypercall { origin, call } => {
            let io = IoTap {
                io: origin.io,
                accesses: &accesses,
            };
            let origin = Origin { io: &io, ..origin };
            domain.act(&tap, effects, Input::Hypercall { origin, call })
        }
        _ => domain.act(&tap, effects, input),
    };
    let new_effects = effects.iter().skip(before);
    recorder.write(&Record {
        input: input.into(),
        accesses: accesses.into_inner(),
        output: (&output).into(),
        effects: new_effects.map(WireEffect::from).collect(),
    });
    output
}
