//! Which steps of a process that is a table are run: the spacing of DeepFloyd IF's repositories and of diffusers.
//!
//! A rule of sections cuts the process into equal parts, low noise first, and gives each a number of steps (ADM's respacing);
//! the eight named lists are such rules. The original counts this way even with one section; diffusers' plain number of steps is
//! another rule (`leading`), with an equal distance from step 0 on.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::names;

/// A choice of steps. Written `leading:50`, `smart50`, `10,10,3,2,2`, `150` (one section) or `ddim50`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timesteps {
    /// So many, with an equal distance, from 0 on.
    Leading(usize),
    /// A named list: its place in [`Self::NAMED`].
    Named(usize),
    /// Steps for each of so many equal sections, low noise first; a section may have none.
    Sections(Counts),
    /// Every k-th step, k chosen so that there are so many.
    Ddim(usize),
}

/// Numbers of steps, one for each section; at most [`Counts::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    counts: [u32; Self::MAX],
    sections: usize,
}

impl Counts {
    /// The most sections; the longest named list has 23.
    pub const MAX: usize = 32;

    fn get(&self) -> Vec<usize> {
        self.counts[..self.sections].iter().map(|count| *count as usize).collect()
    }
}

impl Timesteps {
    /// The named lists of DeepFloyd IF, as rules of sections.
    pub const NAMED: [(&str, &[usize]); 8] = [
        ("fast27", &[10, 10, 3, 2, 2]),
        ("smart27", &[7, 4, 2, 1, 2, 4, 7]),
        ("smart50", &[10, 6, 4, 3, 2, 2, 3, 4, 6, 10]),
        ("smart100", &[1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 7, 8, 9, 10, 13]),
        ("smart185", &[1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20]),
        ("super27", &[1, 1, 1, 1, 1, 1, 1, 2, 5, 13]),
        ("super40", &[2, 2, 2, 2, 2, 2, 3, 4, 6, 15]),
        ("super100", &[4, 4, 6, 6, 8, 8, 10, 10, 14, 30]),
    ];

    /// The steps of a process of `of`, from the most noise to the least; `offset` is added to those of `leading`.
    ///
    /// # Errors
    /// `Usage` where the process has not that many.
    pub fn steps(&self, of: usize, offset: usize) -> Result<Vec<usize>> {
        let mut steps = match self {
            Self::Leading(count) => {
                if *count == 0 || *count > of {
                    return Err(Error::usage(format!("{count} steps: expected 1 to {of}")));
                }
                let distance = of / count;
                (0..*count).map(|i| (i * distance + offset).min(of - 1)).collect()
            }
            Self::Named(at) => spaced(of, Self::NAMED[*at].1)?,
            Self::Sections(counts) => spaced(of, &counts.get())?,
            Self::Ddim(count) => {
                let every = (1..of.max(2)).find(|every| of.div_ceil(*every) == *count);
                let every = every.ok_or_else(|| {
                    Error::usage(format!("ddim{count}: no whole distance makes {count} of {of} steps"))
                })?;
                (0..of).step_by(every).collect()
            }
        };
        // rounding may put two points of a section, or of neighbours, on one step
        steps.dedup();
        steps.reverse();
        if steps.is_empty() {
            return Err(Error::usage(format!("`{self}` chooses no steps")));
        }
        Ok(steps)
    }
}

/// `counts[i]` of the steps of section i, the first and the last of a section among them, rounded half to even.
fn spaced(of: usize, counts: &[usize]) -> Result<Vec<usize>> {
    let (size, longer) = (of / counts.len(), of % counts.len());
    let (mut steps, mut start) = (Vec::new(), 0);
    for (i, &count) in counts.iter().enumerate() {
        let size = size + usize::from(i < longer);
        if count > size {
            return Err(Error::usage(format!("section {} has {size} steps and cannot give {count}", i + 1)));
        }
        let stride = if count > 1 { (size - 1) as f64 / (count - 1) as f64 } else { 1.0 };
        // added up, as in the original: a sum and a product need not round alike
        let mut at = 0.0f64;
        for _ in 0..count {
            steps.push(start + at.round_ties_even() as usize);
            at += stride;
        }
        start += size;
    }
    Ok(steps)
}

impl fmt::Display for Timesteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leading(count) => write!(f, "leading:{count}"),
            Self::Named(at) => f.pad(Self::NAMED[*at].0),
            Self::Sections(counts) => f.pad(&counts.get().iter().map(usize::to_string).collect::<Vec<_>>().join(",")),
            Self::Ddim(count) => write!(f, "ddim{count}"),
        }
    }
}

impl FromStr for Timesteps {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            let names: Vec<&str> = Self::NAMED.iter().map(|(name, _)| *name).collect();
            Error::usage(format!(
                "timesteps '{text}': expected one of {}, a list of counts like 10,10,3,2,2, leading:50 or ddim50",
                names.join(", ")
            ))
        };
        let count = |digits: &str| digits.trim().parse::<usize>().map_err(|_| unknown());
        if let Some(at) = Self::NAMED.iter().position(|(name, _)| *name == text) {
            return Ok(Self::Named(at));
        }
        if let Some(digits) = text.strip_prefix("leading:") {
            return count(digits).map(Self::Leading);
        }
        if let Some(digits) = text.strip_prefix("ddim") {
            return count(digits).map(Self::Ddim);
        }
        let given = text.split(',').map(|part| part.trim().parse::<u32>().map_err(|_| unknown()));
        let given: Vec<u32> = given.collect::<Result<_>>()?;
        let sections = given.len();
        if sections > Counts::MAX {
            return Err(Error::usage(format!(
                "timesteps '{text}': {sections} sections, expected at most {}",
                Counts::MAX
            )));
        }
        let mut counts = [0; Counts::MAX];
        counts[..sections].copy_from_slice(&given);
        Ok(Self::Sections(Counts { counts, sections }))
    }
}

names::by_text!(Timesteps);
