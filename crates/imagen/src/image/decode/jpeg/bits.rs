//! The entropy-coded data of a scan: Huffman codes, and blocks of coefficients by them (ITU T.81, annexes B, F and G).

use super::pixels::PLACES;
use super::scan::{Round, damaged, next_marker};
use crate::error::Result;

/// The codes of means and of other coefficients, four each.
#[derive(Default)]
pub(super) struct Codes([[Option<Code>; 4]; 2]);

impl Codes {
    /// The two that a scan's header names.
    pub(super) fn of(&self, named: u8) -> [Option<&Code>; 2] {
        [self.0[0][usize::from(named >> 4) % 4].as_ref(), self.0[1][usize::from(named) % 4].as_ref()]
    }
}

/// A Huffman code.
pub(super) struct Code {
    /// Length and symbol of each code of at most [`Code::SHORT`] bits, by the bits that follow; 0 for longer ones.
    short: Vec<(u8, u8)>,
    /// For each length the first code beyond its codes, and the place of its first symbol less its first code.
    beyond: [u32; 17],
    place: [i32; 17],
    symbols: Vec<u8>,
}

/// Why a scan could not be read to its end.
pub(super) enum Broken {
    /// The data end.
    Ended,
    /// A code that does not exist.
    NoCode,
}

/// The tables of a segment.
pub(super) fn read_codes(mut body: &[u8], codes: &mut Codes) -> Result<()> {
    while let Some((&kind, rest)) = body.split_first() {
        let counts: &[u8; 16] = rest.first_chunk().ok_or_else(|| damaged("a table of codes is cut"))?;
        let symbols = counts.iter().map(|&n| usize::from(n)).sum::<usize>();
        let listed = rest.get(16..16 + symbols).ok_or_else(|| damaged("a table of codes is cut"))?;
        codes.0[usize::from(kind >> 4) % 2][usize::from(kind) % 4] = Some(Code::new(counts, listed));
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
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next `count` bits, at the lower end.
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, buffer: 0, count: 0 }
    }

    /// The place of the marker that ends the scan, once it was read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Takes bytes in; fewer than 32 bits are there afterwards only where no more follow.
    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match self.bytes[self.at.min(self.bytes.len())..] {
                [0xFF, 0, ..] => {
                    self.at += 2;
                    0xFF
                }
                // fill bytes
                [0xFF, 0xFF, ..] => {
                    self.at += 1;
                    continue;
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
    pub(super) fn restart(&mut self) -> bool {
        (self.buffer, self.count) = (0, 0);
        let mut at = self.at;
        let found = next_marker(self.bytes, &mut at).is_some_and(|marker| matches!(marker, 0xD0..=0xD7));
        if found {
            self.at = at;
        }
        found
    }

    /// A block of a sequential scan, which is 0 so far.
    pub(super) fn block(
        &mut self,
        [dc, ac]: [Option<&Code>; 2],
        mean: &mut i32,
        block: &mut [i16; 64],
    ) -> Result<(), Broken> {
        block[0] = self.mean(dc, mean)? as i16;
        let mut k = 1;
        while k < 64 {
            let symbol = self.symbol(ac)?;
            let (zeros, bits) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (zeros, bits) {
                (15, 0) => k += 16,
                (_, 0) => break,
                _ => {
                    k += zeros;
                    block[usize::from(PLACES[k])] = self.number(bits)? as i16;
                    k += 1;
                }
            }
        }
        Ok(())
    }

    /// A number of some bits, the first of which says whether it is above 0.
    fn number(&mut self, bits: u32) -> Result<i32, Broken> {
        if bits == 0 {
            return Ok(0);
        }
        let value = self.take(bits)? as i32;
        Ok(if value >> (bits - 1) == 0 { value + 1 - (1 << bits) } else { value })
    }

    /// The mean of a block, sent as the difference to the one before.
    fn mean(&mut self, code: Option<&Code>, mean: &mut i32) -> Result<i32, Broken> {
        let bits = self.symbol(code)?;
        if bits > 15 {
            return Err(Broken::NoCode);
        }
        *mean = mean.wrapping_add(self.number(u32::from(bits))?);
        Ok(*mean)
    }

    /// A block of a progressive scan: the coefficients of a round, for the first time or one bit finer. `run` counts blocks to
    /// come that have none.
    pub(super) fn round(
        &mut self,
        [dc, ac]: [Option<&Code>; 2],
        round: &Round,
        mean: &mut i32,
        block: &mut [i16; 64],
        run: &mut u32,
    ) -> Result<(), Broken> {
        let unit = 1i16 << round.low;
        if round.start == 0 {
            if !round.refining {
                block[0] = (self.mean(dc, mean)? << round.low) as i16;
            } else if self.take(1)? == 1 {
                block[0] |= unit;
            }
            return Ok(());
        }
        let mut k = round.start;
        while *run == 0 && k <= round.end {
            let symbol = self.symbol(ac)?;
            let (zeros, bits) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if bits == 0 && zeros < 15 {
                *run = (1 << zeros) + self.take(zeros)? as u32;
                break;
            }
            let value = match bits {
                _ if !round.refining => (self.number(bits)? << round.low) as i16,
                0 => 0,
                _ if self.take(1)? == 1 => unit,
                _ => -unit,
            };
            k = if round.refining { self.refine(block, unit, k, round.end, zeros)? } else { k + zeros as usize };
            if bits > 0 {
                block[usize::from(PLACES[k])] = value;
            }
            k += 1;
        }
        if *run > 0 {
            if round.refining {
                self.refine(block, unit, k, round.end, u32::MAX)?;
            }
            *run -= 1;
        }
        Ok(())
    }

    /// Makes each coefficient that is set one bit finer, past `zeros` that are not; the place of the next that is not.
    fn refine(
        &mut self,
        block: &mut [i16; 64],
        unit: i16,
        mut k: usize,
        end: usize,
        mut zeros: u32,
    ) -> Result<usize, Broken> {
        while k <= end {
            let coefficient = &mut block[usize::from(PLACES[k])];
            if *coefficient != 0 {
                if self.take(1)? == 1 && *coefficient & unit == 0 {
                    *coefficient = coefficient.wrapping_add(if *coefficient > 0 { unit } else { -unit });
                }
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
