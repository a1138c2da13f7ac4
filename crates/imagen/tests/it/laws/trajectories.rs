//! What a trajectory promises whatever its sampler is: batches, steps, masks, refusals.

use super::*;

#[test]
fn a_picture_does_not_depend_on_the_batch_that_it_is_in() {
    let data = Normal { mean: 0.3, deviation: 0.5 };
    let samplers = Sampler::ALL.into_iter().chain([Sampler::Ddim { eta: 0.5 }]);
    for sampler in samplers {
        let draw = |pictures: std::ops::Range<u64>| {
            let (keys, z) = (keys(pictures.clone()), first_z(&keys(pictures), 5));
            picture(Trajectory::new(sampler, NoiseSchedule::Linear, 7, z, keys, exact(data)).unwrap())
        };
        let whole = draw(0..4);
        for pictures in [0..1, 1..3, 3..4] {
            let part = whole.clone().narrow(0, pictures.start as usize, pictures.clone().count());
            assert_eq!(draw(pictures.clone()).into_data(), part.into_data(), "{sampler}, pictures {pictures:?}");
        }
    }
}

#[test]
fn steps_run_evenly_from_noise_towards_the_picture_and_only_when_pulled() {
    let mut calls = Vec::new();
    let trajectory = Trajectory::new(
        Sampler::default(),
        NoiseSchedule::Cosine,
        8,
        first_z(&keys(0..1), 4),
        keys(0..1),
        |z, level| {
            calls.push(level);
            Ok(z)
        },
    );
    let events: Vec<(usize, usize)> =
        trajectory.unwrap().take(5).map(|event| event.map(|event| (event.index, event.of)).unwrap()).collect();
    assert_eq!(events, [(0, 8), (1, 8), (2, 8), (3, 8), (4, 8)]);
    assert_eq!(calls, even_times(NoiseSchedule::Cosine, 8)[..5]);
}

#[test]
fn the_picture_is_the_last_prediction() {
    for sampler in Sampler::ALL {
        for steps in [1, 2, 5] {
            let z = first_z(&keys(0..1), 4);
            let denoise = |z: Tensor<4>, level: LogSnr| Ok(z.zeros_like().add_scalar(level.get()));
            let mut trajectory =
                Trajectory::new(sampler, NoiseSchedule::Linear, steps, z, keys(0..1), denoise).unwrap();
            let last = trajectory.by_ref().last().unwrap().unwrap();
            let lambda = even_times(NoiseSchedule::Linear, steps)[steps - 1];
            assert_eq!(last.index, sampler.evaluations(steps) - 1, "{sampler}, {steps} steps");
            assert!((last.level.get() - lambda.get()).abs() < 1e-12, "{sampler}, {steps} steps");
            assert!(values(last.x_hat).iter().all(|x| *x == last.level.get() as f32));
            assert!(trajectory.next().is_none());
        }
    }
}

#[test]
fn a_prediction_that_is_not_finite_ends_the_trajectory_and_names_the_step() {
    let mut step = 0;
    let denoise = |z: Tensor<4>, _: LogSnr| {
        step += 1;
        Ok(if step == 3 { z.mul_scalar(f32::NAN) } else { z })
    };
    let z = first_z(&keys(0..1), 4);
    let trajectory = Trajectory::new(Sampler::default(), NoiseSchedule::Cosine, 10, z, keys(0..1), denoise).unwrap();
    let events: Vec<_> = trajectory.collect();
    assert_eq!(events.len(), 3);
    let error = events[2].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    let message = format!("{error:#}");
    assert!(message.starts_with("sampling step 3 of 10: x_hat has 48 of 48 numbers that are not finite"), "{message}");
}

#[test]
fn a_plan_can_be_followed_from_its_middle() {
    let data = Normal { mean: 0.3, deviation: 0.5 };
    let (schedule, z) = (NoiseSchedule::Cosine, first_z(&keys(0..1), 4));
    let follow = |sampler: Sampler| {
        let plan = sampler.plan(schedule, 6).unwrap()[4..].to_vec();
        let mut exact = exact(data);
        let denoise = move |z, step: &PlannedStep| exact(z, step.level).map(Denoised::from);
        picture(Trajectory::follow(plan, z.clone(), None, noise_of(keys(0..1), Device::flex()), denoise))
    };
    // without a step before it, the solver of second order takes the first step as that of first order does
    let (solver, ddim) = (follow(Sampler::DpmSolverPlusPlus2M), follow(Sampler::Ddim { eta: 0.0 }));
    assert!(close(solver, ddim, 1e-6));
}

/// The finished picture where all of `picture` is kept but what `drawn` says.
fn kept(sampler: Sampler, picture: Tensor<4>, drawn: Option<f64>, outside: Outside, times: usize) -> Tensor<4> {
    let z = first_z(&keys(0..1), 4);
    let keep = drawn.map(|part| Keep { picture, drawn: Tensor::full([1, 4, 4, 1], part, &Device::flex()), outside });
    let denoise = |z: Tensor<4>, _: &PlannedStep| Ok(Denoised::from(z.mul_scalar(0.5)));
    let plan = repeated(&sampler.plan(NoiseSchedule::Cosine, 5).unwrap(), times);
    let noise = noise_of(keys(0..1), Device::flex());
    Trajectory::follow(plan, z, keep, noise, denoise).last().unwrap().unwrap().z
}

#[test]
fn a_mask_of_black_gives_the_picture_one_of_white_none_and_a_grey_one_their_mean() {
    let picture = noise(&[Rng::new(9)], [1, 4, 4, 3], &Device::flex());
    for sampler in Sampler::ALL {
        for outside in Outside::ALL {
            let with = |part| kept(sampler, picture.clone(), Some(part), outside, 1);
            let without = kept(sampler, picture.clone(), None, outside, 1);
            assert_eq!(with(0.0).into_data(), picture.clone().into_data(), "{sampler}, {outside}");
            assert_eq!(with(1.0).into_data(), without.clone().into_data(), "{sampler}, {outside}");
            let mean = (without + picture.clone()).mul_scalar(0.5);
            assert!(close(with(0.5), mean, 1e-6), "{sampler}, {outside}: any part drawn is drawn as all is");
        }
    }
}

#[test]
fn a_step_that_is_taken_again_returns_to_its_own_level() {
    for sampler in Sampler::ALL {
        for schedule in NoiseSchedule::ALL {
            let plan = sampler.plan(schedule, 7).unwrap();
            assert_eq!(repeated(&plan, 1), plan);
            let (again, begins) = (repeated(&plan, 3), beginnings(&plan));
            let each = begins[1];
            assert_eq!((begins.len(), again.len()), (7, 6 * 3 * each + 1));
            for k in 0..6 {
                let (here, next) = (&plan[begins[k]], &plan[begins[k + 1]]);
                let of_step = |time: usize| &again[(3 * k + time) * each..(3 * k + time + 1) * each];
                assert!((0..3).all(|time| of_step(time)[0].level == here.level));
                assert!(of_step(2)[each - 1].back.is_none());
                let [of_z, of_noise] = of_step(0)[each - 1].back.unwrap();
                // what was α_s x + σ_s ε becomes α_t x + σ_t ε
                let (alpha, variance) = (of_z * next.alpha, (of_z * next.sigma).powi(2) + of_noise.powi(2));
                assert!((alpha - here.alpha).abs() < 1e-12, "{sampler}, {schedule}, step {k}");
                assert!((variance - here.sigma.powi(2)).abs() < 1e-12, "{sampler}, {schedule}, step {k}");
            }
        }
    }
}

#[test]
fn a_step_is_taken_again_from_what_lay_before_it() {
    // the solver of second order draws its line through the level before, not through the step's own last try
    let plan = repeated(&Sampler::DpmSolverPlusPlus2M.plan(NoiseSchedule::Cosine, 3).unwrap(), 2);
    let mut said = Vec::new();
    let denoise = |z: Tensor<4>, _: &PlannedStep| {
        said.push(z.clone());
        Ok(Denoised::from(Tensor::full(z.dims(), said.len() as f64, &Device::flex())))
    };
    let silent: Noise = Box::new(|_, dims| Tensor::zeros(dims, &Device::flex()));
    Trajectory::follow(plan.clone(), first_z(&keys(0..1), 4), None, silent, denoise).for_each(drop);
    assert_eq!(said.len(), 5);
    let of = |k: usize, previous: f64| {
        let by = plan[k].update.unwrap().by;
        said[k].clone().mul_scalar(by.z).add_scalar(by.x_hat * (k + 1) as f64 + by.previous * previous)
    };
    // the steps 0, 0, 1, 1, 2: both tries of step 1 look back at the second of step 0, which said 2
    assert!(close(said[3].clone(), of(2, 2.0).mul_scalar(plan[2].back.unwrap()[0]), 1e-6));
    assert!(close(said[4].clone(), of(3, 2.0), 1e-6));
}

#[test]
fn without_steps_z_is_the_picture() {
    let z = first_z(&keys(0..1), 4);
    let never = |_: Tensor<4>, _: &PlannedStep| -> Result<Denoised> { unreachable!("nothing is denoised") };
    let noise = noise_of(keys(0..1), Device::flex());
    let all: Vec<_> = Trajectory::follow(Vec::new(), z.clone(), None, noise, never).map(Result::unwrap).collect();
    assert_eq!((all.len(), all[0].index, all[0].of), (1, 0, 1));
    assert_eq!(all[0].z.clone().into_data(), z.into_data());
}

#[test]
fn a_rule_that_needs_variances_is_refused_where_there_are_none() {
    let error = Sampler::Learned.plan(NoiseSchedule::Cosine, 5).unwrap_err();
    assert!(error.to_string().contains("for networks that choose variances"), "{error}");
}

#[test]
fn a_trajectory_without_steps_or_keys_is_refused() {
    let new = |steps, keys| {
        let z = first_z(&self::keys(0..2), 4);
        Trajectory::new(Sampler::default(), NoiseSchedule::Cosine, steps, z, keys, |z, _| Ok(z)).err().unwrap()
    };
    assert_eq!(new(0, keys(0..2)).to_string(), "sampling takes 0 steps, expected at least 1");
    assert_eq!(new(5, keys(0..1)).to_string(), "2 pictures have 1 random keys, expected one each");
}
