//! Values given per stage: `--steps 50` for all of them, `--steps 50,20` one each, in the order in which they run.

use std::str::FromStr;

use imagen::cascade::StageName;
use imagen::said::counted;

use crate::failure::{Failure, Result};

/// One value, or one for each stage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PerStage<T>(Vec<T>);

impl<T: Copy> PerStage<T> {
    /// The value that a flag gives to the base alone, where it has only one.
    pub(crate) fn of_base(&self) -> Option<T> {
        match self.0.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }

    /// Each stage's value. Values for stages that the model has and that do not run this time are accepted and unused.
    ///
    /// # Errors
    /// `Usage` where there are neither one value nor as many as stages; `flag` and `what` name them.
    pub(crate) fn spread(&self, flag: &str, model: &[StageName], running: usize) -> Result<Vec<(StageName, T)>> {
        let running_stages = &model[..running];
        match self.0.as_slice() {
            [all] => Ok(running_stages.iter().map(|stage| (*stage, *all)).collect()),
            each if (running..=model.len()).contains(&each.len()) => {
                Ok(running_stages.iter().copied().zip(each.iter().copied()).collect())
            }
            each => {
                let names: Vec<_> = model.iter().map(|stage| stage.name()).collect();
                let (stages, list) = (counted(model.len(), "such stage"), names.join(", "));
                let message = format!("{flag} has {} values, but this model has {stages} ({list})", each.len());
                let example = ["A", "B", "C"][..model.len().clamp(2, 3)].join(",");
                let hint = format!("give one value for all stages, or one for each: {flag} {example}");
                Err(Failure::usage(message).hint(hint))
            }
        }
    }
}

impl<T: FromStr<Err: std::fmt::Display>> FromStr for PerStage<T> {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        let parse = |item: &str| match item.trim() {
            "" => Err("a value is missing; give one for all stages, or one for each, as in 50,20".to_owned()),
            item => item.parse().map_err(|e: T::Err| {
                let said = e.to_string();
                if said.contains(item) { said } else { format!("`{item}`: {said}") }
            }),
        };
        let values: Vec<T> = list.split(',').map(parse).collect::<Result<_, _>>()?;
        let most = StageName::ALL.len();
        if values.len() > most {
            return Err(format!("{} values, but a cascade has at most {most} stages", values.len()));
        }
        Ok(Self(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    const MODEL: [StageName; 2] = [StageName::Base, StageName::Sr256];

    fn spread(list: &str, running: usize) -> Result<Vec<usize>> {
        let values = list.parse::<PerStage<usize>>().unwrap().spread("--steps", &MODEL, running)?;
        assert!(values.iter().map(|(stage, _)| *stage).eq(MODEL[..values.len()].iter().copied()));
        Ok(values.into_iter().map(|(_, value)| value).collect())
    }

    #[test]
    fn one_value_is_for_all_stages_and_several_are_in_order() {
        assert_eq!(spread("50", 2).unwrap(), [50, 50]);
        assert_eq!(spread("50, 20", 2).unwrap(), [50, 20]);
        assert_eq!(spread("50,20", 1).unwrap(), [50]);
        assert_eq!(spread("50", 1).unwrap(), [50]);
        let three = [StageName::Base, StageName::Sr256, StageName::Sr1024];
        let two = "10,5".parse::<PerStage<usize>>().unwrap();
        assert_eq!(two.spread("--steps", &three, 1).unwrap(), [(StageName::Base, 10)], "what does not run is unused");
        assert!(two.spread("--steps", &three, 3).is_err(), "a stage that runs has no value");
        assert_eq!((two.of_base(), "7".parse::<PerStage<usize>>().unwrap().of_base()), (None, Some(7)));
    }

    #[test]
    fn a_list_that_fits_no_model_is_refused() {
        for (list, reason) in [("50,", "missing"), ("", "missing"), ("x", "`x`"), ("1,2,3,4", "at most 3")] {
            let error = list.parse::<PerStage<usize>>().unwrap_err();
            assert!(error.contains(reason), "{list}: {error}");
        }
    }

    #[test]
    fn a_list_that_does_not_fit_this_model_is_refused() {
        let failure = spread("1,2,3", 2).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("3 values, but this model has 2 such stages (base, sr256)"), "{failure}");
    }
}
