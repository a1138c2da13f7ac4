//! What markers say of a scan, and how the next is found.

use crate::error::{Error, Result};

/// The next marker, past anything that stands before it.
pub(super) fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        let place = rest.iter().position(|&byte| byte == 0xFF)?;
        let fill = rest[place..].iter().take_while(|&&byte| byte == 0xFF).count();
        let marker = *rest.get(place + fill)?;
        *at += place + fill + 1;
        if marker != 0 {
            return Some(marker);
        }
    }
}

pub(super) fn damaged(what: &str) -> Error {
    Error::data(format!("the JPEG file is damaged: {what}; fetch it again"))
}

/// Which coefficients a scan sends, and which of their bits.
pub(super) struct Round {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether bits above `low` were sent before.
    pub(super) refining: bool,
    pub(super) low: u8,
}

impl Round {
    /// All of a sequential picture.
    pub(super) const WHOLE: Self = Self { start: 0, end: 63, refining: false, low: 0 };

    pub(super) fn read(start: u8, end: u8, approximation: u8) -> Result<Self> {
        let (start, end) = (usize::from(start), usize::from(end));
        let (high, low) = (approximation >> 4, approximation & 15);
        let sound = start <= end && end < 64 && (start > 0 || end == 0) && low <= 13 && (high == 0 || high == low + 1);
        if !sound {
            return Err(damaged("a round is of coefficients that do not go together"));
        }
        Ok(Self { start, end, refining: high > 0, low })
    }
}
