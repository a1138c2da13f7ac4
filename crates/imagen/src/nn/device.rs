//! Where to compute, as people name it: the CPU, or a device that a Cargo feature brings (`cuda:1`, `webgpu`), found on this
//! machine when it is asked for.
//!
//! A device is a value that is handed down; nothing here is remembered, and whoever has a tensor has its device.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::error::{Error, Result};
use crate::names::{by_text, find, named, no_setting, split};

/// A way to compute, as it is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// This project's kernels on the processor.
    #[default]
    Cpu,
    /// NVIDIA's own interface.
    Cuda,
    /// AMD's own interface.
    Rocm,
    /// Apple's own interface.
    Metal,
    /// Vulkan with shaders in its own form.
    Vulkan,
    /// Any GPU, with shaders in WebGPU's form: over Vulkan, Metal or DirectX.
    Webgpu,
    /// The first of the above but the CPU that is built in and has a real card here; the CPU where there is none.
    Auto,
}

// `auto` tries those between the processor and itself in this order
named!(
    DeviceKind,
    "device",
    Cpu = "cpu",
    Cuda = "cuda",
    Rocm = "rocm",
    Metal = "metal",
    Vulkan = "vulkan",
    Webgpu = "webgpu",
    Auto = "auto",
);

impl DeviceKind {
    /// The Cargo feature that brings it; none for what is always there.
    pub fn feature(self) -> Option<&'static str> {
        match self {
            Self::Cpu | Self::Auto => None,
            Self::Webgpu => Some("wgpu"),
            other => Some(other.name()),
        }
    }

    /// Whether this build has it.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Cpu | Self::Auto => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Rocm => cfg!(feature = "rocm"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Webgpu => cfg!(feature = "wgpu"),
        }
    }

    /// What must be installed for one to be found.
    fn needs(self) -> &'static str {
        match self {
            Self::Cpu | Self::Auto => "nothing",
            Self::Cuda => "an NVIDIA GPU with its driver (libcuda)",
            Self::Rocm => "an AMD GPU with ROCm's run-time libraries",
            Self::Metal => "a Mac with a GPU",
            Self::Vulkan => "a GPU with a Vulkan driver and its loader (libvulkan)",
            Self::Webgpu => "a GPU with a Vulkan, Metal or DirectX 12 driver (on Linux also the loader, libvulkan)",
        }
    }
}

/// A device as it is named: a kind, and which of them where there are several (`cuda:1`, counted from 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceName {
    /// The way to compute.
    pub kind: DeviceKind,
    /// Which of that kind; the first by default.
    pub index: Option<usize>,
}

impl From<DeviceKind> for DeviceName {
    fn from(kind: DeviceKind) -> Self {
        Self { kind, index: None }
    }
}

by_text!(DeviceName);

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        self.index.map_or(Ok(()), |index| write!(f, ":{index}"))
    }
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, index) = split(text);
        if kind.eq_ignore_ascii_case("gpu") {
            return Err(Error::usage(
                "unknown device 'gpu': auto takes the fastest that there is, cuda, rocm, metal, vulkan or webgpu name one",
            ));
        }
        let kind = find("device", &DeviceKind::ALL, kind)?;
        let Some(index) = index else { return Ok(kind.into()) };
        if kind.feature().is_none() {
            return Err(no_setting(kind, index));
        }
        let wrong =
            |_| Error::usage(format!("'{index}' is no number of a device, expected {kind}:0 for the first {kind}"));
        Ok(Self { kind, index: Some(index.parse().map_err(wrong)?) })
    }
}

/// A device that was found, with what it says of itself.
#[derive(Clone, Debug)]
pub struct Found {
    /// What opens it.
    pub name: DeviceName,
    /// Where tensors are made.
    pub device: Device,
    /// What its maker calls it; none where it does not say.
    pub model: Option<String>,
    /// Its place on the PCI bus, `0000:01:00.0`; none where it does not say.
    pub pci: Option<String>,
    /// Whether it is a program that computes on the processor, to test with.
    pub software: bool,
}

impl DeviceName {
    /// The device.
    ///
    /// # Errors
    /// `Usage` where this build does not have its kind, with the command that builds it, or where the machine has no such
    /// device, with what it needs.
    pub fn open(self) -> Result<Device> {
        self.find().map(|found| found.device)
    }

    /// The device with what it says of itself; the GPU's interface is opened for that.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn find(self) -> Result<Found> {
        match self.kind {
            DeviceKind::Cpu => Ok(Found::cpu()),
            DeviceKind::Auto => Ok(found().into_iter().find(|found| !found.software).unwrap_or_else(Found::cpu)),
            kind => self.of(kind),
        }
    }

    fn of(self, kind: DeviceKind) -> Result<Found> {
        if let Some(feature) = kind.feature().filter(|_| !kind.is_built_in()) {
            return Err(Error::usage(format!(
                "this program was built without {kind}; `cargo build --release -p imagen-cli --features {feature}` builds \
                 one that has it, where what it needs is there (GUIDE.md, \"Computing on a GPU\")"
            )));
        }
        let mut all = found_of(kind);
        let (count, index) = (all.len(), self.index.unwrap_or(0));
        if index < count {
            return Ok(all.swap_remove(index));
        }
        let (name, needs) = (kind, kind.needs());
        Err(Error::usage(match count {
            0 => format!("this machine has no {name} device: it takes {needs}; `imagen doctor` lists what is there"),
            1 => format!("there is no {self}: this machine has one {name} device, {name}:0"),
            _ => {
                format!("there is no {self}: this machine has {count} {name} devices, {name}:0 to {name}:{}", count - 1)
            }
        }))
    }
}

impl Found {
    fn cpu() -> Self {
        Self { name: DeviceKind::Cpu.into(), device: Device::flex(), model: None, pci: None, software: false }
    }

    /// Whether it is the processor with this project's kernels.
    pub fn is_cpu(&self) -> bool {
        self.name.kind == DeviceKind::Cpu
    }

    /// Bytes that its tensors take, and those that are reserved for them; none where it does not keep count (the CPU).
    pub fn memory(&self) -> Option<(u64, u64)> {
        self.device.memory_pool_usage().map(|usage| (usage.bytes_in_use, usage.bytes_reserved))
    }
}

/// Every device beside the CPU that this build can reach on this machine, in the order in which `auto` tries them.
pub fn found() -> Vec<Found> {
    DeviceKind::ALL
        .into_iter()
        .filter(|kind| kind.feature().is_some() && kind.is_built_in())
        .flat_map(found_of)
        .collect()
}

/// The devices of one kind.
fn found_of(kind: DeviceKind) -> Vec<Found> {
    let several = listed(kind);
    let count = several.len();
    let of = |(index, device): (usize, Device)| {
        let name = DeviceName { kind, index: Some(index).filter(|_| count > 1) };
        let (model, pci, software) = identity(&device);
        Found { name, device, model, pci, software }
    };
    several.into_iter().enumerate().map(of).collect()
}

/// The devices of a kind, real cards first.
#[cfg(feature = "gpu")]
fn listed(kind: DeviceKind) -> Vec<Device> {
    use burn::tensor::DeviceType;
    let of = match kind {
        #[cfg(feature = "cuda")]
        DeviceKind::Cuda => DeviceType::Cuda,
        #[cfg(feature = "rocm")]
        DeviceKind::Rocm => DeviceType::Rocm,
        #[cfg(feature = "metal")]
        DeviceKind::Metal => DeviceType::Metal,
        #[cfg(feature = "vulkan")]
        DeviceKind::Vulkan => DeviceType::Vulkan,
        #[cfg(feature = "wgpu")]
        DeviceKind::Webgpu => DeviceType::Wgpu,
        _ => return Vec::new(),
    };
    let mut devices = Device::enumerate(of).into_vec();
    devices.sort_by_key(|device| identity(device).2);
    devices
}

#[cfg(not(feature = "gpu"))]
fn listed(_: DeviceKind) -> Vec<Device> {
    Vec::new()
}

/// What a device says of itself: its model, its place on the bus, whether it is a program.
#[cfg(feature = "gpu")]
fn identity(device: &Device) -> (Option<String>, Option<String>, bool) {
    let Some(identity) = device.identity() else { return (None, None, false) };
    let pci = identity.physical.as_ref().and_then(|card| card.pci_address.as_ref()).map(ToString::to_string);
    (Some(identity.name), pci, identity.physical.is_none())
}

#[cfg(not(feature = "gpu"))]
fn identity(_: &Device) -> (Option<String>, Option<String>, bool) {
    (None, None, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["cpu", "cuda", "cuda:0", "cuda:13", "rocm:1", "metal", "vulkan", "webgpu", "webgpu:2", "auto"] {
            let name: DeviceName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!((json.as_str(), serde_json::from_str(&json).unwrap()), (format!("{text:?}").as_str(), name));
        }
        for text in ["", "gpu", "cpu:0", "auto:1", "cuda:", "cuda:one", "CUDA", "webgpu:-1"] {
            let error = text.parse::<DeviceName>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}: {error}");
        }
    }

    #[test]
    fn a_kind_that_is_not_built_in_is_named_with_its_command() {
        for kind in DeviceKind::ALL.into_iter().filter(|kind| !kind.is_built_in()) {
            let error = DeviceName::from(kind).open().expect_err(kind.name()).to_string();
            let feature = kind.feature().expect("what is no feature is built in");
            assert!(error.contains(&format!("--features {feature}`")) && error.contains(kind.name()), "{error}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_said_with_what_it_takes() {
        for kind in DeviceKind::ALL.into_iter().filter(|kind| kind.feature().is_some() && kind.is_built_in()) {
            let name = DeviceName { kind, index: Some(99) };
            let error = name.open().expect_err(kind.name());
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(kind.name()), "{error}");
        }
    }

    #[test]
    fn auto_never_takes_a_program_for_a_card() {
        let found = DeviceName::from(DeviceKind::Auto).find().unwrap();
        assert!(!found.software, "{found:?}");
    }
}
