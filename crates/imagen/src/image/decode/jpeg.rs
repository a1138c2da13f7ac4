//! JPEG files: markers, frames and scans (ITU T.81, annex B), with every row of the picture there or an error.
//!
//! The decoders at hand fill what is missing with grey and say nothing, and their colours are up to four levels from those
//! of libjpeg, in which the reference networks and everybody's pictures were seen. So this one reads each scan to its last
//! block, says in which row a file breaks, and computes what libjpeg computes by default, level by level (`jpeg/pixels`).
//! Deliberately not here: arithmetic coding, 12 bits, lossless and hierarchical files, smoothing of half-sent pictures.

mod bits;
mod pixels;
mod scan;

use self::bits::{Bits, Broken, Codes, read_codes};
use self::pixels::{Colours, Plane, pixels, write_block};
use self::scan::{Round, damaged, next_marker};
use crate::error::{Error, Result};

/// More scans than any encoder makes; a file may ask for millions of blocks in few bytes a scan.
const MAX_SCANS: usize = 128;

/// What is known of a file before memory is taken for its pixels.
pub(super) struct Ahead<'a> {
    pub(super) size: [usize; 2],
    /// Bytes of a pixel: 1 grey, 3 colour.
    pub(super) channels: usize,
    /// Bytes that are kept beside the pixels: the samples of each colour, and all coefficients where the picture comes in rounds.
    pub(super) kept: u64,
    /// The photograph's notes.
    pub(super) exif: Option<&'a [u8]>,
}

/// What the segments before a scan say.
#[derive(Default)]
struct Tables<'a> {
    codes: Codes,
    quantisation: [Option<[u16; 64]>; 4],
    /// Units between two restart markers; 0 for none.
    restart: usize,
    jfif: bool,
    /// The kind of colours that Adobe's segment names.
    adobe: Option<u8>,
    exif: Option<&'a [u8]>,
}

/// A frame header, and what of the picture is there.
struct Frame {
    progressive: bool,
    size: [usize; 2],
    components: Vec<Component>,
}

struct Component {
    id: u8,
    table: usize,
    /// Blocks of a unit, across and down.
    sampling: [usize; 2],
    /// Blocks of a row, and rows, of a scan of this component alone.
    blocks: [usize; 2],
    /// Blocks of a row, and rows, that a scan of all components sends.
    padded: [usize; 2],
    scanned: bool,
    /// The steps of its coefficients, as they were at its first scan.
    quantisation: [u16; 64],
    /// The last bit that is known of each coefficient, or none; of progressive pictures.
    known: [Option<u8>; 64],
    /// Coefficients of all blocks; of progressive pictures.
    coefficients: Vec<[i16; 64]>,
    samples: Vec<u8>,
}

/// Decodes a file: its size, bytes a pixel, pixels. `allow` sees what is ahead before memory is taken for it.
///
/// # Errors
/// [`crate::ErrorKind::Data`] if the picture is not all there, or of a form that is not read; what `allow` says.
pub(super) fn decode<'a>(
    bytes: &'a [u8],
    mut allow: impl FnMut(Ahead<'a>) -> Result<()>,
) -> Result<([usize; 2], usize, Vec<u8>)> {
    let cut = || Error::data("the JPEG file ends before its picture begins; fetch it again");
    let mut at = 2;
    let (mut frame, mut tables, mut scans) = (None::<Frame>, Tables::default(), 0);
    loop {
        let Some(marker) = next_marker(bytes, &mut at) else {
            // Of a picture that comes in rounds more might follow.
            return Err(frame.as_ref().map_or_else(cut, |frame| incomplete(frame, None)));
        };
        match marker {
            0xD9 => return Err(frame.as_ref().map_or_else(cut, |frame| incomplete(frame, None))),
            0x01 | 0xD0..=0xD8 => continue,
            _ => {}
        }
        let length = bytes.get(at..at + 2).map_or(0, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
        let Some(body) = length.checked_sub(2).and_then(|length| bytes.get(at + 2..at + 2 + length)) else {
            // A segment that reaches beyond the file: nothing follows.
            at = bytes.len();
            continue;
        };
        at += length;
        match marker {
            0xC0..=0xC2 if frame.is_none() => frame = Some(Frame::read(marker == 0xC2, body)?),
            0xC9..=0xCF => {
                return Err(Error::data("a JPEG file in arithmetic coding is not read; save it with Huffman codes"));
            }
            0xC3 | 0xC5..=0xC7 => {
                return Err(Error::data("a lossless or hierarchical JPEG file is not read; save it as a plain one"));
            }
            0xC4 => read_codes(body, &mut tables.codes)?,
            0xDB => tables.read_quantisation(body)?,
            0xDD => tables.restart = body.first_chunk().map_or(0, |b| usize::from(u16::from_be_bytes(*b))),
            0xE0 => tables.jfif |= body.len() >= 14 && body.starts_with(b"JFIF\0"),
            0xE1 if tables.exif.is_none() => tables.exif = body.strip_prefix(b"Exif\0\0"),
            0xEE if body.len() >= 12 && body.starts_with(b"Adobe") => tables.adobe = Some(body[11]),
            0xDA => {
                let frame = frame.as_mut().ok_or_else(cut)?;
                let colours = frame.colours(&tables)?;
                let channels = if colours == Colours::Grey { 1 } else { 3 };
                if scans == 0 {
                    allow(Ahead { size: frame.size, channels, kept: frame.kept(), exif: tables.exif })?;
                    frame.allocate();
                }
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(Error::data(format!("a JPEG file of more than {MAX_SCANS} scans is not read")));
                }
                at = frame.scan(body, bytes, at, &tables)?;
                if frame.complete() {
                    // It is all there. Some cameras leave the end mark out, and append what they like.
                    return Ok((frame.size, channels, pixels(&frame.planes(), colours, frame.size)));
                }
            }
            _ => {}
        }
    }
}

/// That some of a picture is missing from a row on, where that is known.
fn incomplete(frame: &Frame, row: Option<usize>) -> Error {
    let begun = frame.components.iter().all(|c| c.scanned);
    let from = match row {
        Some(row) => format!(" in row {row} of {}", frame.size[1]),
        None if begun => ", before its last rounds".to_string(),
        None => String::new(),
    };
    Error::data(format!("the JPEG file ends in the middle of the picture{from}; fetch it again"))
}

impl Tables<'_> {
    fn read_quantisation(&mut self, mut body: &[u8]) -> Result<()> {
        while let Some((&kind, rest)) = body.split_first() {
            let wide = kind >> 4 > 0;
            let length = if wide { 128 } else { 64 };
            let steps = rest.get(..length).ok_or_else(|| damaged("a table of steps is cut"))?;
            let mut table = [0; 64];
            for (k, &place) in pixels::PLACES[..64].iter().enumerate() {
                table[usize::from(place)] =
                    if wide { u16::from_be_bytes([steps[2 * k], steps[2 * k + 1]]) } else { u16::from(steps[k]) };
            }
            self.quantisation[usize::from(kind) % 4] = Some(table);
            body = &rest[length..];
        }
        Ok(())
    }
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
        if components.iter().any(|c| [0, 1].iter().any(|&axis| most[axis] % sampling(c)[axis] != 0)) {
            return Err(Error::data("a JPEG file whose colours are not whole pixels apart is not read; save it anew"));
        }
        let sides = [width, height];
        let component = |c: &[u8; 3]| {
            let sampling = sampling(c);
            Component {
                id: c[0],
                table: usize::from(c[2]) % 4,
                sampling,
                blocks: [0, 1].map(|axis| (sides[axis] * sampling[axis]).div_ceil(most[axis]).div_ceil(8)),
                padded: [0, 1].map(|axis| sides[axis].div_ceil(8 * most[axis]) * sampling[axis]),
                scanned: false,
                quantisation: [0; 64],
                known: [None; 64],
                coefficients: Vec::new(),
                samples: Vec::new(),
            }
        };
        Ok(Self { progressive, size: sides, components: components.into_iter().map(component).collect() })
    }

    /// What the colours stand for, as libjpeg guesses it.
    fn colours(&self, tables: &Tables<'_>) -> Result<Colours> {
        let ids: Vec<u8> = self.components.iter().map(|c| c.id).collect();
        Ok(match (ids.len(), tables.adobe) {
            (1, _) => Colours::Grey,
            (3, _) if tables.jfif => Colours::YCbCr,
            (3, Some(0)) => Colours::Rgb,
            (3, None) if ids == *b"RGB" => Colours::Rgb,
            (3, _) => Colours::YCbCr,
            (4, None | Some(0)) => Colours::Cmyk,
            (4, _) => Colours::Ycck,
            _ => return Err(Error::data("a JPEG file of two colours is not read; expected one, three or four")),
        })
    }

    fn most(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.components.iter().map(|c| c.sampling[axis]).max().unwrap_or(1))
    }

    /// Units of a scan of several components, across and down.
    fn units(&self) -> [usize; 2] {
        let most = self.most();
        [0, 1].map(|axis| self.size[axis].div_ceil(8 * most[axis]))
    }

    /// Bytes of samples and coefficients.
    fn kept(&self) -> u64 {
        let blocks: usize = self.components.iter().map(|c| c.padded[0] * c.padded[1]).sum();
        blocks as u64 * if self.progressive { 3 * 64 } else { 64 }
    }

    fn allocate(&mut self) {
        for component in &mut self.components {
            let blocks = component.padded[0] * component.padded[1];
            if self.progressive {
                component.coefficients = vec![[0; 64]; blocks]
            } else {
                component.samples = vec![0; 64 * blocks]
            }
        }
    }

    /// Whether every bit of every coefficient was sent.
    fn complete(&self) -> bool {
        let sent = |c: &Component| c.known.iter().all(|&last| last == Some(0));
        self.components.iter().all(|c| if self.progressive { sent(c) } else { c.scanned })
    }

    /// Reads a scan from `at` on, and gives the place behind it.
    fn scan(&mut self, header: &[u8], bytes: &[u8], at: usize, tables: &Tables<'_>) -> Result<usize> {
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
            .map(|[id, codes]| Some((self.components.iter().position(|c| c.id == *id)?, *codes)))
            .collect();
        let chosen = chosen.filter(|chosen| !chosen.is_empty());
        let chosen = chosen.ok_or_else(|| damaged("a scan is of colours that its frame does not have"))?;
        let round = if self.progressive { Round::read(start, end, approximation)? } else { Round::WHOLE };
        let alone = chosen.len() == 1;
        if self.progressive && round.start > 0 && !alone {
            return Err(damaged("a round mixes colours"));
        }
        for &(number, _) in &chosen {
            let component = &mut self.components[number];
            if !component.scanned {
                let steps = tables.quantisation[component.table];
                component.quantisation = steps.ok_or_else(|| damaged("a table of steps is missing"))?;
            }
            component.known[round.start..=round.end].fill(Some(round.low));
        }
        let units = if alone { self.components[chosen[0].0].blocks } else { self.units() };
        let most = self.most();
        let rows = 8 * if alone { most[1].div_ceil(self.components[chosen[0].0].sampling[1]) } else { most[1] };
        let mut bits = Bits::new(bytes, at);
        let mut means = [0; 4];
        let mut run = 0;
        let mut block = [0; 64];
        for unit in 0..units[0] * units[1] {
            if tables.restart > 0 && unit > 0 && unit % tables.restart == 0 {
                if !bits.restart() {
                    return Err(incomplete(self, Some(unit / units[0] * rows)));
                }
                (means, run) = ([0; 4], 0);
            }
            let mut walked = Ok(());
            for &(number, codes) in &chosen {
                let component = &mut self.components[number];
                let [across, down] = if alone { [1, 1] } else { component.sampling };
                for inner in 0..across * down {
                    let x = unit % units[0] * across + inner % across;
                    let y = unit / units[0] * down + inner / across;
                    let place = y * component.padded[0] + x;
                    let codes = tables.codes.of(codes);
                    walked = walked.and_then(|()| match component.coefficients.get_mut(place) {
                        Some(block) => bits.round(codes, &round, &mut means[number], block, &mut run),
                        None => {
                            block.fill(0);
                            bits.block(codes, &mut means[number], &mut block)?;
                            let stride = 8 * component.padded[0];
                            let samples = &mut component.samples[8 * y * stride + 8 * x..];
                            write_block(&block, &component.quantisation, samples, stride);
                            Ok(())
                        }
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
            self.components[number].scanned |= round.start == 0;
        }
        Ok(bits.at())
    }

    /// Takes the samples of each component out.
    fn planes(&mut self) -> Vec<Plane> {
        let most = self.most();
        let size = self.size;
        let plane = |component: &mut Component| {
            let stride = 8 * component.padded[0];
            let coefficients = std::mem::take(&mut component.coefficients);
            let mut samples = std::mem::take(&mut component.samples);
            samples.resize(stride * 8 * component.padded[1], 0);
            for (number, block) in coefficients.iter().enumerate() {
                let (x, y) = (number % component.padded[0], number / component.padded[0]);
                write_block(block, &component.quantisation, &mut samples[8 * y * stride + 8 * x..], stride);
            }
            Plane {
                samples,
                stride,
                size: [0, 1].map(|axis| (size[axis] * component.sampling[axis]).div_ceil(most[axis])),
                step: [0, 1].map(|axis| most[axis] / component.sampling[axis]),
            }
        };
        self.components.iter_mut().map(plane).collect()
    }
}
