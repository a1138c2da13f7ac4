//! What the machine is: processor, instruction sets, threads, memory.
//!
//! Linux tells most of this; elsewhere the answer is `None`, never a guess.

use std::fs;
use std::num::NonZero;
use std::process::Command;
use std::thread;

use imagen::nn::device::Found;

/// The processor's name, where the system tells it.
pub(crate) fn processor() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The vector instruction sets that matter to the kernels and that this processor has.
pub(crate) fn instruction_sets() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let known = [
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
    ];
    #[cfg(target_arch = "aarch64")]
    let known = [("neon", std::arch::is_aarch64_feature_detected!("neon"))];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known: [(&str, bool); 0] = [];
    known.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
}

/// Threads that this process may use at once.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Cores of the machine as it counts them, used by this process or not, where the system tells it.
pub(crate) fn cores() -> Option<usize> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    Some(info.lines().filter(|line| line.starts_with("processor")).count()).filter(|count| *count > 0)
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// All that this process could ever have: the machine's, or its container's limit.
    pub(crate) total: u64,
    /// What it could have now without swapping.
    pub(crate) available: u64,
}

/// The memory, where the system tells it.
pub(crate) fn memory() -> Option<Memory> {
    let machine = parse_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let number = |path| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let Some(limit) = number("/sys/fs/cgroup/memory.max") else { return Some(machine) };
    let used = number("/sys/fs/cgroup/memory.current").unwrap_or(0);
    Some(Memory { total: machine.total.min(limit), available: machine.available.min(limit.saturating_sub(used)) })
}

/// Bytes of memory that a device has for tensors: a card's own, where its driver tells it; the machine's, where it computes in
/// that.
pub(crate) fn memory_of(found: &Found) -> Option<u64> {
    match &found.pci {
        Some(pci) => card_memory(pci),
        None => memory().map(|memory| memory.total),
    }
}

/// Memory of the card at a place of the PCI bus: AMD's driver has it in a file, NVIDIA's tells it by its own program.
fn card_memory(pci: &str) -> Option<u64> {
    let file = format!("/sys/bus/pci/devices/{pci}/mem_info_vram_total");
    if let Some(bytes) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
        return Some(bytes);
    }
    let asked = ["--query-gpu=memory.total", "--format=csv,noheader,nounits", "--id", pci];
    let answer = Command::new("nvidia-smi").args(asked).output().ok().filter(|answer| answer.status.success())?;
    let mebibytes: u64 = std::str::from_utf8(&answer.stdout).ok()?.trim().parse().ok()?;
    Some(mebibytes << 20)
}

/// The most memory that this process has held at once, in bytes, where the system tells it.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn parse_meminfo(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some(Memory { total: field("MemTotal")?, available: field("MemAvailable")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kibibytes() {
        let memory = parse_meminfo("MemTotal:       16 kB\nMemFree: 1 kB\nMemAvailable:    8 kB\n").unwrap();
        assert_eq!((memory.total, memory.available), (16 * 1024, 8 * 1024));
        assert!(parse_meminfo("MemTotal: many").is_none());
    }
}
