//! Reports how often and why the vCPUs left the guest, as KVM counts it.
//!
//! The process has one recorder, which holds one descriptor for each vCPU. When it is off, a machine
//! costs one look at it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, OnceLock, PoisonError},
};

use pvh_config::ReportStyle;
use pvh_kvm::{CountersError, Vcpu, VcpuCounters};
use serde_json::json;

use crate::exit::sentence;

/// The counters of one vCPU by KVM's names.
type Counts = BTreeMap<String, u64>;

/// What is counted: the machines that have ended, and the one that runs.
#[derive(Debug, Default)]
struct Recorder {
    vcpus: Vec<Counts>,
    running: Vec<VcpuCounters>,
    refused: Option<CountersError>,
}

static RECORDER: OnceLock<Mutex<Recorder>> = OnceLock::new();

/// Starts recording.
pub(crate) fn begin() {
    // A recorder that runs already goes on.
    let _ = RECORDER.set(Mutex::default());
}

/// Counts the exits of these vCPUs from now on, beside those of the machine before.
pub(crate) fn watch(vcpus: &[Vcpu]) {
    let Some(recorder) = RECORDER.get() else {
        return;
    };
    let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
    // What cannot be read now is missing at the end.
    let _ = recorder.add_running();
    match vcpus.iter().map(Vcpu::counters).collect() {
        Ok(running) => recorder.running = running,
        Err(refused) => recorder.refused = Some(refused),
    }
}

/// Returns the report, if one is recorded. Call it when the last machine has ended.
pub(crate) fn report(style: ReportStyle) -> Option<String> {
    let recorder = RECORDER.get()?;
    let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = recorder.add_running() {
        recorder.refused.get_or_insert(CountersError::Host(error));
    }
    let why = recorder
        .refused
        .take()
        .map(|why| sentence(&why, None::<&str>));
    Some(match (style, why) {
        (ReportStyle::Text, None) => text(&recorder.vcpus),
        (ReportStyle::Text, Some(why)) => format!("exits are not counted: {why}\n"),
        (ReportStyle::Json, None) => format!("{}\n", json!({ "vcpus": recorder.vcpus })),
        (ReportStyle::Json, Some(why)) => format!("{}\n", json!({ "error": why })),
    })
}

impl Recorder {
    /// Reads the counters of the machine that runs, and adds them to those of the ones before.
    fn add_running(&mut self) -> io::Result<()> {
        for (index, counters) in self.running.drain(..).enumerate() {
            if self.vcpus.len() <= index {
                self.vcpus.push(Counts::new());
            }
            let Some(sums) = self.vcpus.get_mut(index) else {
                continue;
            };
            for (name, value) in counters.read()? {
                let sum = sums.entry(name.to_owned()).or_default();
                *sum = sum.saturating_add(value);
            }
        }
        Ok(())
    }
}

/// A table of the kinds, the most frequent first.
fn text(vcpus: &[Counts]) -> String {
    let sum = |name: &str| {
        let values = vcpus.iter().filter_map(|counts| counts.get(name));
        values.copied().fold(0, u64::saturating_add)
    };
    let all = sum("exits");
    let mut kinds: Vec<(u64, &str)> = KINDS.map(|(name, kind)| (sum(name), kind)).to_vec();
    let known = kinds.iter().map(|(count, _)| *count);
    let rest = all.saturating_sub(known.fold(0, u64::saturating_add));
    kinds.retain(|(count, _)| *count > 0);
    kinds.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    kinds.push((rest, "others: MSRs, CPUID, devices in the kernel"));
    let head = match vcpus.len() {
        1 => "exits of the vCPU, as KVM counts them".to_owned(),
        cpus => format!("exits of {cpus} vCPUs, as KVM counts them"),
    };
    let mut text = format!("{all:>10}  {head}\n");
    for (count, kind) in kinds {
        text.push_str(&format!("{count:>10}    {kind}\n"));
    }
    text
}

/// KVM's counters of exits by kind.
const KINDS: [(&str, &str); 8] = [
    (
        "pf_taken",
        "page faults: the first touch of a page of guest memory",
    ),
    ("io_exits", "port I/O that pvh-vmm handles"),
    ("mmio_exits", "memory-mapped I/O that pvh-vmm handles"),
    ("hypercalls", "hypercalls that KVM handles"),
    ("halt_exits", "HLT: the guest was idle"),
    ("irq_exits", "interrupts of the host"),
    (
        "irq_window_exits",
        "the guest could take an interrupt again",
    ),
    ("nmi_window_exits", "the guest could take an NMI again"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_summed_over_the_vcpus_and_the_most_frequent_is_first() {
        let counts = |list: &[(&str, u64)]| -> Counts {
            let list = list.iter();
            list.map(|&(name, value)| (name.to_owned(), value))
                .collect()
        };
        let vcpus = [
            counts(&[("exits", 100), ("pf_taken", 20), ("io_exits", 30)]),
            counts(&[("exits", 11), ("pf_taken", 11), ("tlb_flush", 5)]),
        ];
        let text = text(&vcpus);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "       111  exits of 2 vCPUs, as KVM counts them",
                "        31    page faults: the first touch of a page of guest memory",
                "        30    port I/O that pvh-vmm handles",
                "        50    others: MSRs, CPUID, devices in the kernel",
            ]
        );
    }
}
