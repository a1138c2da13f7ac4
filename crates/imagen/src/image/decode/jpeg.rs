//! Whether a JPEG file holds its whole picture: its markers are walked from one to the next, and its scans are counted block by
//! block (ITU T.81, annexes B, F and G).
//!
//! The decoder fills what is missing with grey and says nothing, whether or not an end mark follows; bytes that look like a
//! mark may also stand in what phones and galleries append. So the entropy-coded data are read here once, without computing a
//! pixel. Deliberately not here: colours, transforms, arithmetic coding.

use crate::error::{Error, Result};

/// More scans than any encoder makes; a file may ask for millions of blocks in few bytes a scan.
const MAX_SCANS: usize = 128;

/// What is known of a JPEG file before it is decoded.
#[derive(Debug)]
pub(super) struct Outline {
    /// Where the picture ends in the file.
    pub(super) end: usize,
    /// Whether an end mark is there.
    pub(super) ended: bool,
    /// Bytes that the decoder keeps beside the pixels: all coefficients, where the picture comes in several scans.
    pub(super) kept: u64,
}

/// What a frame header says.
struct Frame {
    progressive: bool,
    size: [usize; 2],
    components: Vec<Component>,
}

struct Component {
    id: u8,
    /// Blocks of a unit, across and down.
    sampling: [usize; 2],
    /// Blocks of a row, and rows, of a scan of this component alone.
    blocks: [usize; 2],
    scanned: bool,
    /// Which coefficients of each block are other than 0; of progressive pictures.
    set: Vec<u64>,
}

/// A Huffman code.
struct Code {
    /// Length and symbol of each code of at most [`Code::SHORT`] bits, by the bits that follow; 0 for longer ones.
    short: Vec<(u8, u8)>,
    /// For each length the first code beyond its codes, and the place of its first symbol less its first code.
    beyond: [u32; 17],
    place: [i32; 17],
    symbols: Vec<u8>,
}

/// Why a scan could not be read to its end.
enum Broken {
    /// The data end.
    Ended,
    /// A code that does not exist.
    NoCode,
}

/// Walks a file. `allow` sees width, height and the bytes that the decoder will keep, before any of it is counted.
///
/// # Errors
/// [`crate::ErrorKind::Data`] if the picture is not all there, or of a form that is not read; what `allow` says.
pub(super) fn outline(bytes: &[u8], allow: impl Fn(usize, usize, u64) -> Result<()>) -> Result<Outline> {
    let cut = || Error::data("the JPEG file ends before its picture begins; fetch it again");
    let mut at = 2;
    let (mut frame, mut kept, mut restart, mut scans) = (None::<Frame>, 0, 0, 0);
    let mut codes: [[Option<Code>; 4]; 2] = Default::default();
    loop {
        let Some(marker) = next_marker(bytes, &mut at) else {
            // Of a picture that comes in rounds more might follow.
            return Err(frame.as_ref().map_or_else(cut, |frame| incomplete(frame, None)));
        };
        match marker {
            0xD9 => {
                let frame = frame.as_ref().ok_or_else(cut)?;
                if !frame.components.iter().all(|c| c.scanned) {
                    return Err(incomplete(frame, None));
                }
                return Ok(Outline { end: at, ended: true, kept });
            }
            0x01 | 0xD0..=0xD8 => continue,
            _ => {}
        }
        let length = bytes.get(at..at + 2).map_or(0, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
        let Some(body) = length.checked_sub(2).and_then(|length| bytes.get(at + 2..at + 2 + length)) else {
            // A segment that reaches beyond the file: what came before it may be the whole picture.
            at = bytes.len();
            continue;
        };
        at += length;
        match marker {
            0xC0..=0xC2 if frame.is_none() => {
                let read = Frame::read(marker == 0xC2, body)?;
                kept = read.kept();
                allow(read.size[0], read.size[1], kept)?;
                frame = Some(read);
            }
            0xC9..=0xCF => {
                return Err(Error::data("a JPEG file in arithmetic coding is not read; save it with Huffman codes"));
            }
            0xC3 | 0xC5..=0xC7 => {
                return Err(Error::data("a lossless or hierarchical JPEG file is not read; save it as a plain one"));
            }
            0xC4 => read_codes(body, &mut codes)?,
            0xDD => restart = body.first_chunk().map_or(0, |b| usize::from(u16::from_be_bytes(*b))),
            0xDA => {
                let frame = frame.as_mut().ok_or_else(cut)?;
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(Error::data(format!("a JPEG file of more than {MAX_SCANS} scans is not read")));
                }
                at = frame.scan(body, bytes, at, &codes, restart)?;
                if !frame.progressive && frame.components.iter().all(|c| c.scanned) {
                    // It is all there. Some cameras leave the end mark out and append what they like.
                    let ended = bytes[at.min(bytes.len())..].starts_with(&[0xFF, 0xD9]);
                    return Ok(Outline { end: if ended { at + 2 } else { at.min(bytes.len()) }, ended, kept });
                }
            }
            _ => {}
        }
    }
}

/// The next marker, past anything that stands before it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
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

fn damaged(what: &str) -> Error {
    Error::data(format!("the JPEG file is damaged: {what}; fetch it again"))
}

/// That some of a picture is missing from a row on, where that is known.
fn incomplete(frame: &Frame, row: Option<usize>) -> Error {
    let from = row.map(|row| format!(" in row {row} of {}", frame.size[1])).unwrap_or_default();
    Error::data(format!("the JPEG file ends in the middle of the picture{from}; fetch it again"))
}

impl Frame {
    fn read(progressive: bool, body: &[u8]) -> Result<Self> {
        let [bits, h1, h0, w1, w0, count, rest @ ..] = body else { return Err(damaged("its frame has no size")) };
        let (height, width) =
            (usize::from(u16::from_be_bytes([*h1, *h0])), usize::from(u16::from_be_bytes([*w1, *w0])));
        if *bits != 8 {
            return Err(Error::data(format!("a JPEG file of {bits} bits is not read; save it with 8")));
        }
        if width == 0 || height == 0 {
            return Err(damaged("its frame has no pixels"));
        }
        let components: Vec<_> = rest.as_chunks::<3>().0.iter().take(usize::from(*count)).collect();
        if components.is_empty() || components.len() != usize::from(*count) || *count > 4 {
            return Err(damaged("its frame has no colours"));
        }
        let sampling = |c: &[u8; 3]| [usize::from(c[1] >> 4), usize::from(c[1] & 15)];
        if components.iter().any(|c| sampling(c).iter().any(|s| !(1..=4).contains(s))) {
            return Err(damaged("its frame has samplings that do not exist"));
        }
        let most = [0, 1].map(|axis| components.iter().map(|c| sampling(c)[axis]).max().unwrap_or(1));
        // The decoder mixes up the colours of these, and no encoder makes them by itself.
        if sampling(components[0]) != most {
            return Err(Error::data("a JPEG file whose first colour is not the finest is not read; save it anew"));
        }
        let sides = [width, height];
        let component = |c: &[u8; 3]| {
            let sampling = sampling(c);
            let blocks = [0, 1].map(|axis| (sides[axis] * sampling[axis]).div_ceil(most[axis]).div_ceil(8));
            Component { id: c[0], sampling, blocks, scanned: false, set: Vec::new() }
        };
        Ok(Self { progressive, size: sides, components: components.into_iter().map(component).collect() })
    }

    fn most(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.components.iter().map(|c| c.sampling[axis]).max().unwrap_or(1))
    }

    /// Units of a scan of several components, across and down.
    fn units(&self) -> [usize; 2] {
        let most = self.most();
        [0, 1].map(|axis| self.size[axis].div_ceil(8 * most[axis]))
    }

    /// Bytes of the coefficients, two each, and of what is known of them here, an eighth of a byte each.
    fn kept(&self) -> u64 {
        if !self.progressive {
            return 0;
        }
        let units = self.units();
        let blocks: usize = self.components.iter().map(|c| units[0] * c.sampling[0] * units[1] * c.sampling[1]).sum();
        blocks as u64 * (64 * 2 + 8)
    }

    /// Reads a scan from `at` on, and gives the place behind it.
    fn scan(
        &mut self,
        header: &[u8],
        bytes: &[u8],
        at: usize,
        codes: &[[Option<Code>; 4]; 2],
        restart: usize,
    ) -> Result<usize> {
        let count = usize::from(header.first().copied().unwrap_or(0));
        let (Some(chosen), Some(&[start, end, approximation])) =
            (header.get(1..1 + 2 * count), header.get(1 + 2 * count..).and_then(<[u8]>::first_chunk::<3>))
        else {
            return Err(damaged("a scan has no header"));
        };
        let chosen: Option<Vec<_>> = chosen
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[id, tables]| Some((self.components.iter().position(|c| c.id == *id)?, *tables)))
            .collect();
        let chosen = chosen.filter(|chosen| !chosen.is_empty());
        let chosen = chosen.ok_or_else(|| damaged("a scan is of colours that its frame does not have"))?;
        let band = if self.progressive { (usize::from(start), usize::from(end.min(63))) } else { (0, 63) };
        let refining = self.progressive && approximation >> 4 > 0;
        let alone = chosen.len() == 1;
        let units = if alone { self.components[chosen[0].0].blocks } else { self.units() };
        let most = self.most();
        let rows = 8 * if alone { most[1].div_ceil(self.components[chosen[0].0].sampling[1]) } else { most[1] };
        let mut bits = Bits { bytes, at, buffer: 0, count: 0 };
        let mut run = 0;
        for unit in 0..units[0] * units[1] {
            if restart > 0 && unit > 0 && unit % restart == 0 {
                if !bits.restart() {
                    return Err(incomplete(self, Some(unit / units[0] * rows)));
                }
                run = 0;
            }
            let mut walked = Ok(());
            for &(number, tables) in &chosen {
                let component = &mut self.components[number];
                let [across, down] = if alone { [1, 1] } else { component.sampling };
                for inner in 0..across * down {
                    let tables =
                        [codes[0][usize::from(tables >> 4) % 4].as_ref(), codes[1][usize::from(tables) % 4].as_ref()];
                    let block = if alone { unit } else { inner };
                    walked = walked.and_then(|()| match self.progressive {
                        false => bits.block(tables),
                        true => bits.round(tables, band, refining, component, block, &mut run),
                    });
                }
            }
            match walked {
                Ok(()) => {}
                Err(Broken::Ended) => return Err(incomplete(self, Some(unit / units[0] * rows))),
                Err(Broken::NoCode) => {
                    let row = unit / units[0] * rows;
                    return Err(damaged(&format!("its data are damaged from row {row} of {} on", self.size[1])));
                }
            }
        }
        for (number, _) in chosen {
            self.components[number].scanned |= band.0 == 0;
        }
        Ok(bits.at)
    }
}

/// The tables of a segment.
fn read_codes(mut body: &[u8], codes: &mut [[Option<Code>; 4]; 2]) -> Result<()> {
    while let Some((&kind, rest)) = body.split_first() {
        let counts: &[u8; 16] = rest.first_chunk().ok_or_else(|| damaged("a table of codes is cut"))?;
        let symbols = counts.iter().map(|&n| usize::from(n)).sum::<usize>();
        let listed = rest.get(16..16 + symbols).ok_or_else(|| damaged("a table of codes is cut"))?;
        codes[usize::from(kind >> 4) % 2][usize::from(kind) % 4] = Some(Code::new(counts, listed));
        body = &rest[16 + symbols..];
    }
    Ok(())
}

impl Code {
    const SHORT: usize = 9;

    fn new(counts: &[u8; 16], symbols: &[u8]) -> Self {
        let mut code =
            Self { short: vec![(0, 0); 1 << Self::SHORT], beyond: [0; 17], place: [0; 17], symbols: symbols.to_vec() };
        let (mut next, mut symbol) = (0u32, 0usize);
        for length in 1..=16 {
            code.place[length] = symbol as i32 - next as i32;
            for _ in 0..counts[length - 1] {
                if length <= Self::SHORT {
                    let free = Self::SHORT - length;
                    let first = (next as usize) << free;
                    for entry in code.short.iter_mut().skip(first).take(1 << free) {
                        *entry = (length as u8, symbols[symbol]);
                    }
                }
                (next, symbol) = (next + 1, symbol + 1);
            }
            code.beyond[length] = next;
            next <<= 1;
        }
        code
    }
}

/// The bits of a scan, up to the next marker.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next `count` bits, at the lower end.
    buffer: u64,
    count: u32,
}

impl Bits<'_> {
    /// Takes bytes in; fewer than 32 bits are there afterwards only where no more follow.
    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match self.bytes[self.at.min(self.bytes.len())..] {
                [0xFF, 0, ..] => {
                    self.at += 2;
                    0xFF
                }
                [] | [0xFF, ..] => return,
                [byte, ..] => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    fn take(&mut self, bits: u32) -> Result<u64, Broken> {
        if self.count < bits {
            self.fill();
        }
        self.count = self.count.checked_sub(bits).ok_or(Broken::Ended)?;
        Ok(self.buffer >> self.count & ((1 << bits) - 1))
    }

    fn symbol(&mut self, code: Option<&Code>) -> Result<u8, Broken> {
        let code = code.ok_or(Broken::NoCode)?;
        if self.count < 16 {
            self.fill();
        }
        // what follows the end is as if 0
        let ahead = if self.count >= 16 { self.buffer >> (self.count - 16) } else { self.buffer << (16 - self.count) };
        let ahead = ahead as u32 & 0xFFFF;
        let (length, symbol) = code.short[(ahead >> (16 - Code::SHORT)) as usize];
        if length > 0 {
            return self.take(u32::from(length)).map(|_| symbol);
        }
        for length in 1..=16 {
            let bits = ahead >> (16 - length);
            if bits < code.beyond[length] {
                let place = (bits as i32 + code.place[length]) as usize;
                let symbol = *code.symbols.get(place).ok_or(Broken::NoCode)?;
                return self.take(length as u32).map(|_| symbol);
            }
        }
        Err(if self.count < 16 { Broken::Ended } else { Broken::NoCode })
    }

    /// Whether the next restart marker follows; what is left before it is passed over.
    fn restart(&mut self) -> bool {
        (self.buffer, self.count) = (0, 0);
        let mut at = self.at;
        let found = next_marker(self.bytes, &mut at).is_some_and(|marker| matches!(marker, 0xD0..=0xD7));
        if found {
            self.at = at;
        }
        found
    }

    /// A block of a sequential scan.
    fn block(&mut self, [dc, ac]: [Option<&Code>; 2]) -> Result<(), Broken> {
        self.difference(dc)?;
        let mut k = 1;
        while k < 64 {
            let symbol = self.symbol(ac)?;
            let (zeros, bits) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (zeros, bits) {
                (15, 0) => k += 16,
                (_, 0) => break,
                _ => {
                    self.take(bits)?;
                    k += zeros + 1;
                }
            }
        }
        Ok(())
    }

    /// The difference of a block's mean to the one before.
    fn difference(&mut self, code: Option<&Code>) -> Result<(), Broken> {
        let bits = self.symbol(code)?;
        if bits > 16 { Err(Broken::NoCode) } else { self.take(u32::from(bits)).map(|_| ()) }
    }

    /// A block of a progressive scan: the coefficients of `band`, for the first time or one bit finer. `run` counts blocks to
    /// come that have none.
    fn round(
        &mut self,
        [dc, ac]: [Option<&Code>; 2],
        (start, end): (usize, usize),
        refining: bool,
        component: &mut Component,
        block: usize,
        run: &mut u32,
    ) -> Result<(), Broken> {
        if start == 0 {
            return if refining { self.take(1).map(|_| ()) } else { self.difference(dc) };
        }
        if component.set.is_empty() {
            component.set = vec![0; component.blocks[0] * component.blocks[1]];
        }
        let set = component.set.get_mut(block).ok_or(Broken::NoCode)?;
        let mut k = start;
        while *run == 0 && k <= end {
            let symbol = self.symbol(ac)?;
            let (zeros, bits) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if bits == 0 && zeros < 15 {
                *run = (1 << zeros) + self.take(zeros)? as u32;
                break;
            }
            self.take(if refining { bits.min(1) } else { bits })?;
            k = if refining { self.refine(*set, k, end, zeros)? } else { k + zeros as usize };
            if bits > 0 && k <= end {
                *set |= 1 << k;
            }
            k += 1;
        }
        if *run > 0 {
            if refining {
                self.refine(*set, k, end, u32::MAX)?;
            }
            *run -= 1;
        }
        Ok(())
    }

    /// Passes a bit for each coefficient that is set, and `zeros` that are not; the place of the next that is not.
    fn refine(&mut self, set: u64, mut k: usize, end: usize, mut zeros: u32) -> Result<usize, Broken> {
        while k <= end {
            if set >> k & 1 == 1 {
                self.take(1)?;
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            k += 1;
        }
        Ok(k)
    }
}
