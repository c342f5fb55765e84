//! Answers and effects of a domain, as a trace keeps them.

use pvh_hypercall::Outcome;
use pvh_vcpu::Orders;

use crate::{
    domain::{Answer, Effect, Observe, Output, Sleep},
    trace::wire::{WireEffect, WireObserve, WireOutcome, WireOutput, WireSleep},
};

impl From<&Output> for WireOutput {
    fn from(output: &Output) -> Self {
        match output {
            Output::Nothing => Self::Nothing,
            Output::Answer(answer) => (*answer).into(),
            Output::Count(count) => Self::Count(*count as u64),
            Output::Orders(orders) => orders.as_ref().into(),
            Output::Stored(Ok(())) => Self::Nothing,
            Output::Stored(Err(error)) => Self::Refused(error.errno.0),
            Output::Bound(Ok(end)) => Self::Bound(end.0),
            Output::Bound(Err(errno)) => Self::Refused(errno.0),
        }
    }
}

impl From<Answer> for WireOutput {
    fn from(answer: Answer) -> Self {
        if let (Outcome::Again(rest), Some(whom)) = (answer.outcome, answer.observe) {
            return Self::Observe {
                rest: rest.into(),
                whom: match whom {
                    Observe::Vcpu(vcpu) => WireObserve::Vcpu(vcpu),
                    Observe::Others => WireObserve::Others,
                },
            };
        }
        Self::Answer {
            outcome: match answer.outcome {
                Outcome::Return(value) => WireOutcome::Return(value),
                Outcome::Again(call) => WireOutcome::Again(call.into()),
            },
            sleep: answer.sleep.map(|sleep| match sleep {
                Sleep::Block => WireSleep::Block,
                Sleep::Poll => WireSleep::Poll,
            }),
        }
    }
}

impl From<&Orders> for WireOutput {
    fn from(orders: &Orders) -> Self {
        let Orders::Run(state) = orders else {
            return match orders {
                Orders::Park => Self::Park,
                _ => Self::Over,
            };
        };
        let words = state.as_ref().map(|s| {
            let segments = [s.cs, s.ds, s.es, s.fs, s.gs, s.ss, s.tr, s.ldtr];
            let segments = segments.into_iter().flat_map(|segment| {
                let (selector, bits) = (segment.selector.into(), segment.attributes.bits().into());
                [selector, segment.base, segment.limit.into(), bits]
            });
            let registers = [
                s.rax, s.rbx, s.rcx, s.rdx, s.rsi, s.rdi, s.rsp, s.rbp, s.r8, s.r9, s.r10, s.r11,
                s.r12, s.r13, s.r14, s.r15, s.rip, s.rflags, s.cr0, s.cr2, s.cr3, s.cr4, s.efer,
                s.dr6, s.dr7,
            ];
            let tables = [s.gdtr, s.idtr];
            let tables = tables.map(|table| [table.base, table.limit.into()]);
            let all = registers.into_iter().chain(segments);
            all.chain(tables.into_iter().flatten()).collect()
        });
        Self::Run(words)
    }
}

impl From<&Effect> for WireEffect {
    fn from(effect: &Effect) -> Self {
        match *effect {
            Effect::GlobalVector { vcpu, vector } => Self::GlobalVector { vcpu, vector },
            Effect::VcpuVector { vcpu, vector } => Self::VcpuVector { vcpu, vector },
            Effect::Wake(vcpu) => Self::Wake(vcpu),
            Effect::Start(vcpu) => Self::Start(vcpu),
            Effect::Resume(vcpu) => Self::Resume(vcpu),
            Effect::Stop(vcpu) => Self::Stop(vcpu),
            Effect::Nmi(vcpu) => Self::Nmi(vcpu),
            Effect::FlushTlbs => Self::FlushTlbs,
            Effect::Output(ref bytes) => Self::Output(bytes.clone()),
            Effect::InputWanted => Self::InputWanted,
            Effect::Log(ref line) => Self::Log(line.clone()),
            Effect::Shutdown(reason) => Self::Shutdown(reason.0),
            Effect::Park(vcpu) => Self::Park(vcpu),
            Effect::StartExpected(vcpu) => Self::StartExpected(vcpu),
            Effect::Notified(end) => Self::Notified(end.0),
        }
    }
}
