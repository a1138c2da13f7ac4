//! What a device says when it gives up, as a failure like any other: the tensor library has a panic for it, perhaps on a
//! thread of its own.

use imagen::input::guarded;
use imagen::nn::device::Found;
use imagen::said::bytes;

use crate::failure::{self, Exit, Failure, Result};
use crate::system;

/// Words of drivers and of the tensor library for memory that is not there.
const NO_MEMORY: [&str; 6] = [
    "out of device memory",
    "out of memory",
    "outofmemory",
    "out_of_device_memory",
    "not enough memory",
    "buffertoobig",
];

/// Does what is computed on a device; its panics become failures that name it.
///
/// # Errors
/// Errors of `work`; `Memory` with the numbers where the device has none left; `Runtime` where it gave up otherwise.
pub(crate) fn on_device<T>(found: &Found, work: impl FnOnce(&Found) -> Result<T>) -> Result<T> {
    let _quiet = failure::quiet_panics();
    guarded(|| work(found)).unwrap_or_else(|said| {
        // asking a device that gave up may be answered in the same way
        let memory = guarded(|| found.memory()).ok().flatten();
        Err(explained(found, &said, memory, system::memory_of(found)))
    })
}

/// What a device said, as a failure; `memory` is what its tensors take and what is reserved for them.
fn explained(found: &Found, said: &str, memory: Option<(u64, u64)>, total: Option<u64>) -> Failure {
    let model = found.model.as_deref().map(|model| format!(" ({model})")).unwrap_or_default();
    let device = format!("{}{model}", found.name);
    let lower = said.to_lowercase();
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    if !NO_MEMORY.iter().any(|words| lower.contains(words)) {
        let failure = Failure::new(Exit::Runtime, format_args!("{device} gave up: {line}"));
        return failure.hint("`imagen doctor` draws a picture there; the command without --device computes on the CPU");
    }
    let held = match memory {
        Some((used, reserved)) => format!("{} in tensors, {} reserved", bytes(used), bytes(reserved)),
        None => "how much its tensors take is not known".into(),
    };
    let of = total.map(|total| format!(", of {}", bytes(total))).unwrap_or_default();
    let failure = Failure::new(Exit::Memory, format_args!("{device} has no memory left: {held}{of}; it said: {line}"));
    failure.hint(format_args!(
        "less at once takes less: --batch when drawing, train.micro_batch and train.checkpoint_blocks when training; \
         `imagen plan --device {}` shows where it goes",
        found.name
    ))
}

#[cfg(test)]
mod tests {
    use imagen::nn::device::{DeviceKind, DeviceName};

    use super::*;

    fn card() -> Found {
        let cpu = DeviceName::default().find().unwrap();
        Found { name: DeviceKind::Cuda.into(), model: Some("Card 7".into()), ..cpu }
    }

    #[test]
    fn memory_that_is_not_there_is_said_with_the_numbers() {
        let said = "Error while reading data: out of device memory allocating 4294967296 bytes";
        let failure = explained(&card(), said, Some((3 << 30, 7 << 29)), Some(4 << 30));
        let text = failure.to_string();
        for words in ["cuda (Card 7)", "3.0 GiB in tensors", "3.5 GiB reserved", "of 4.0 GiB", "4294967296", "--batch"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(failure.exit(), Exit::Memory);
    }

    #[test]
    fn a_panic_on_a_device_is_a_failure_that_names_it() {
        let failure = on_device::<()>(&card(), |_| panic!("the driver was reset\nbacktrace")).unwrap_err();
        assert_eq!(failure.exit(), Exit::Runtime);
        assert!(failure.message().ends_with("cuda (Card 7) gave up: the driver was reset"), "{failure}");
        let kept = on_device::<()>(&card(), |_| Err(Failure::usage("no"))).unwrap_err();
        assert_eq!(kept.message(), "no");
        assert!(!on_device(&card(), |found| Ok(found.software)).unwrap());
    }
}
