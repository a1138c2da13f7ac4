//! Automatic differentiation of the operations: one node each, its backward pass a closure over what it needs.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex, tensor::FloatTensor};
use burn::tensor::{DType, Shape};
use imagen_kernels::adafactor::Adafactor as AdafactorStep;
use imagen_kernels::norm::Activation;
use imagen_kernels::optimizer::Adam;
use imagen_kernels::precision::Precision;
use imagen_kernels::{elementwise, resample};
use tracing::trace_span;

use super::pool::{self, Saved, recycle};
use super::residual::{self, Block};
use super::shapes::{
    attention_shape, concat_shape, conv_output, conv_shape, group_norm_shape, layer_norm_shape, linear_shape,
};
use super::tensors::{BackwardFn, T, contiguous, dims, filled, owned, slice, tensor};
use super::weights::{Way, convolve, convolve_back, multiply_once, of_step};
use crate::nn::arguments::{AdafactorKind, BlockParameters, Maybe};
use crate::nn::extension::NetworkOps;

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

#[derive(Debug)]
struct Node;

#[derive(Clone)]
struct Closure<const N: usize> {
    /// Of the operation.
    name: &'static str,
    /// Of its products, there and back.
    precision: Precision,
    run: Arc<BackwardFn<N>>,
}

impl<const N: usize> std::fmt::Debug for Closure<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

thread_local! {
    /// Nodes of this thread's way back whose gradient came from here and, as far as is known, still waits.
    static WAITING: RefCell<HashSet<NodeId>> = RefCell::default();
}

/// Whether no gradient of this node waits that came from here; one does now.
fn first_gradient(node: NodeId) -> bool {
    /// Those that the tensor library's own operations take are not heard of again.
    const MOST: usize = 1 << 12;
    WAITING.with_borrow_mut(|waiting| {
        if waiting.len() == MOST {
            waiting.clear();
        }
        waiting.insert(node)
    })
}

impl<const N: usize> Backward<Flex, N> for Node {
    type State = Closure<N>;

    fn backward(self, ops: Ops<Closure<N>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = contiguous(grads.consume::<Flex>(&ops.node));
        WAITING.with_borrow_mut(|waiting| waiting.remove(&ops.node.id));
        let _span = trace_span!("back", through = ops.state.name, dy = ?dy.layout().shape().to_vec()).entered();
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = ops.state.precision.during(|| (ops.state.run)(wanted, dy));
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            match (parent, gradient) {
                (Some(parent), Some(gradient)) => {
                    // The tensor library would add two gradients on one thread and let a buffer go. A leaf keeps its own.
                    let leaf = parent.parents.is_empty();
                    let first = leaf || first_gradient(parent.id);
                    let all = if first {
                        gradient
                    } else {
                        <Flex as NetworkOps>::add_scaled(gradient, grads.consume::<Flex>(&parent), 1.0)
                    };
                    grads.register::<Flex>(parent.id, all);
                }
                (None, Some(gradient)) => recycle(gradient),
                (_, None) => {}
            }
        }
    }
}

/// Records one operation under a name that the trace shows in the backward pass. `forward` returns the output and its backward
/// pass; `untracked` runs when no input is tracked.
fn record<C: CheckpointStrategy, const N: usize>(
    name: &'static str,
    inputs: [Option<Tracked<C>>; N],
    forward: impl FnOnce([Option<T>; N]) -> (T, Arc<BackwardFn<N>>),
    untracked: impl FnOnce([Option<T>; N]) -> T,
) -> Tracked<C> {
    // an absent input needs a node all the same: one that is never tracked
    let absent = || <Tracked<C>>::new(FlexTensor::zeros(Shape::from([1]), DType::F32)).node();
    let nodes = inputs.each_ref().map(|t| t.as_ref().map_or_else(absent, |t| t.node()));
    let primitives = inputs.map(|t| t.map(|t| t.into_primitive()));
    match Node.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (y, backward) = forward(primitives.map(|t| t.map(contiguous)));
            prep.finish(Closure { name, precision: Precision::current(), run: backward }, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(untracked(primitives)),
    }
}

fn present<const N: usize>(inputs: [Option<T>; N]) -> [T; N] {
    inputs.map(|t| t.expect("this input is always given"))
}

/// Records an operation of one input; `backward` keeps what it needs of the input, and turns dy into dx.
fn record_one<C: CheckpointStrategy, B: Fn(T) -> T + Send + Sync + 'static>(
    name: &'static str,
    x: Tracked<C>,
    forward: fn(T) -> T,
    backward: impl FnOnce(&T) -> B,
) -> Tracked<C> {
    record::<C, 1>(
        name,
        [Some(x)],
        |inputs| {
            let [x] = present(inputs);
            let backward = backward(&x);
            (forward(x), Arc::new(move |_: [bool; 1], dy: T| [Some(backward(dy))]))
        },
        |inputs| {
            let [x] = present(inputs);
            forward(x)
        },
    )
}

/// The backward pass of a resampling of `[n, h, w, c]`, by its kernel.
fn resampled(
    [n, h, w, c]: [usize; 4],
    kernel: fn(&[f32], usize, usize, usize, usize, &mut [f32]),
) -> impl Fn(T) -> T + Send + Sync + 'static {
    move |dy| {
        let dx = filled([n, h, w, c], |dx| kernel(slice(&dy), n, h, w, c, dx));
        recycle(dy);
        dx
    }
}

pub(super) fn scaled_gradient(dy: T, scale: f32) -> T {
    if scale == 1.0 {
        return dy;
    }
    let mut dy = owned(dy);
    elementwise::scale(dy.storage_mut::<f32>(), scale);
    dy
}

/// Gradients of (x, w, bias `[k]`, residual) for an operation that is linear in x and w, from its two kernels
/// `input(dy, w, dx)` and `weight(x, dy, dw, dbias)`; each runs only where its result is wanted.
fn affine_gradients(
    [want_x, want_w, want_b, _]: [bool; 4],
    dy: T,
    [x, w]: [&T; 2],
    k: usize,
    input: impl FnOnce(&[f32], &T, &mut [f32]),
    weight: impl FnOnce(&[f32], &[f32], &mut [f32], &mut [f32]),
) -> [Option<T>; 4] {
    let dx = want_x.then(|| filled(x.layout().shape().clone(), |dx| input(slice(&dy), w, dx)));
    let (mut dw, mut db) = (None, None);
    if want_w || want_b {
        let _span = trace_span!("gradient of weights").entered();
        let mut bias = vec![0.0; k];
        dw = Some(filled(w.layout().shape().clone(), |dw| weight(slice(x), slice(&dy), dw, &mut bias)));
        db = Some(tensor(bias, Shape::from([k])));
    }
    [dx, dw, db, Some(dy)]
}

impl<C: CheckpointStrategy> NetworkOps for Autodiff<Flex, C> {
    fn conv3x3(
        x: Tracked<C>,
        w: Tracked<C>,
        b: Tracked<C>,
        residual: Maybe<Self>,
        stride: usize,
        scale: f32,
    ) -> Tracked<C> {
        record::<C, 4>(
            "conv3x3",
            [Some(x), Some(w), Some(b), residual.into_option()],
            |[x, w, b, r]| {
                let [x, w, b] = present([x, w, b]);
                let shape = conv_shape(&x, &w, stride);
                let prepared = of_step(shape, &w, Way::Forward, 1);
                let y = filled(conv_output(&shape), |y| {
                    let residual = r.as_ref().map(slice);
                    convolve(shape, slice(&x), &w, prepared.as_deref(), &b, residual, scale, y);
                });
                let x = Saved::from(x);
                let backward = move |wanted: [bool; 4], dy: T| {
                    let input = |dy: &[f32], w: &T, dx: &mut [f32]| {
                        convolve_back(shape, dy, w, of_step(shape, w, Way::Back, 1).as_deref(), dx);
                    };
                    let weight = |x: &[f32], dy: &[f32], dw: &mut [f32], db: &mut [f32]| {
                        shape.grad_weight(x, dy, dw, Some(db));
                    };
                    affine_gradients(wanted, scaled_gradient(dy, scale), [&x, &w], shape.k, input, weight)
                };
                (y, Arc::new(backward))
            },
            |[x, w, b, r]| {
                let [x, w, b] = present([x, w, b]);
                <Flex as NetworkOps>::conv3x3(x, w, b, r.into(), stride, scale)
            },
        )
    }

    fn group_norm(
        x: Tracked<C>,
        gamma: Tracked<C>,
        beta: Tracked<C>,
        film: Maybe<Self>,
        groups: usize,
        activation: Activation,
    ) -> Tracked<C> {
        record::<C, 4>(
            "group_norm",
            [Some(x), Some(gamma), Some(beta), film.into_option()],
            |[x, gamma, beta, film]| {
                let [x, gamma, beta] = present([x, gamma, beta]);
                let norm = group_norm_shape(&x, groups, activation);
                let mut stats = None;
                let y = filled(x.layout().shape().clone(), |y| {
                    let film = film.as_ref().map(slice);
                    stats = Some(norm.forward(slice(&x), slice(&gamma), slice(&beta), film, y));
                });
                let stats = stats.expect("the forward pass has run");
                let x = Saved::from(x);
                let backward = move |_: [bool; 4], dy: T| {
                    let mut dx = owned(dy);
                    let (mut dgamma, mut dbeta) = (vec![0.0; norm.c], vec![0.0; norm.c]);
                    let mut dfilm = film.as_ref().map(|_| vec![0.0; norm.n * 2 * norm.c]);
                    norm.backward(
                        &stats,
                        slice(&x),
                        slice(&gamma),
                        slice(&beta),
                        film.as_ref().map(slice),
                        dx.storage_mut::<f32>(),
                        &mut dgamma,
                        &mut dbeta,
                        dfilm.as_deref_mut(),
                    );
                    let channels = Shape::from([norm.c]);
                    let dfilm = dfilm.map(|d| tensor(d, Shape::from([norm.n, 2 * norm.c])));
                    [Some(dx), Some(tensor(dgamma, channels.clone())), Some(tensor(dbeta, channels)), dfilm]
                };
                (y, Arc::new(backward))
            },
            |[x, gamma, beta, film]| {
                let [x, gamma, beta] = present([x, gamma, beta]);
                <Flex as NetworkOps>::group_norm(x, gamma, beta, film.into(), groups, activation)
            },
        )
    }

    fn residual_block(x: Tracked<C>, film: Tracked<C>, p: BlockParameters<Self>) -> Tracked<C> {
        let (tensors, numbers) = residual::parts(p);
        let [gamma1, beta1, weight1, bias1, gamma2, beta2, weight2, bias2, weight, bias] = tensors;
        record::<C, 12>(
            "residual_block",
            [Some(x), Some(film), gamma1, beta1, weight1, bias1, gamma2, beta2, weight2, bias2, weight, bias],
            |[x, film, tensors @ ..]| {
                let [x, film] = present([x, film]);
                residual::forward(x, film, Block::new(tensors, numbers))
            },
            |[x, film, tensors @ ..]| {
                let [x, film] = present([x, film]);
                residual::infer(x, film, Block::new(tensors, numbers))
            },
        )
    }

    fn layer_norm(x: Tracked<C>, gamma: Tracked<C>, beta: Tracked<C>) -> Tracked<C> {
        record::<C, 3>(
            "layer_norm",
            [Some(x), Some(gamma), Some(beta)],
            |inputs| {
                let [x, gamma, beta] = present(inputs);
                let norm = layer_norm_shape(&x);
                let y = filled(x.layout().shape().clone(), |y| norm.forward(slice(&x), slice(&gamma), slice(&beta), y));
                let x = Saved::from(x);
                let backward = move |_: [bool; 3], dy: T| {
                    let mut dx = owned(dy);
                    let (mut dgamma, mut dbeta) = (vec![0.0; norm.c], vec![0.0; norm.c]);
                    norm.backward(slice(&x), slice(&gamma), dx.storage_mut::<f32>(), &mut dgamma, &mut dbeta);
                    let channels = Shape::from([norm.c]);
                    [Some(dx), Some(tensor(dgamma, channels.clone())), Some(tensor(dbeta, channels))]
                };
                (y, Arc::new(backward))
            },
            |inputs| {
                let [x, gamma, beta] = present(inputs);
                <Flex as NetworkOps>::layer_norm(x, gamma, beta)
            },
        )
    }

    fn attention(q: Tracked<C>, kv: Tracked<C>, mask: Maybe<Self>, heads: usize) -> Tracked<C> {
        record::<C, 3>(
            "attention",
            [Some(q), Some(kv), mask.into_option()],
            |[q, kv, mask]| {
                let [q, kv] = present([q, kv]);
                let shape = attention_shape(&q, &kv, heads);
                let mut log_sums = vec![0.0; shape.b * shape.heads * shape.tq];
                let o = filled(q.layout().shape().clone(), |o| {
                    shape.forward_saving(slice(&q), slice(&kv), mask.as_ref().map(slice), o, &mut log_sums);
                });
                let [saved, q, kv] = [o.clone(), q, kv].map(Saved::from);
                let backward = move |_: [bool; 3], dy: T| {
                    let mut dkv = pool::take(kv.layout().num_elements());
                    let dq = filled(q.layout().shape().clone(), |dq| {
                        let (given, saved) = ([slice(&q), slice(&kv)], [slice(&saved), &log_sums[..]]);
                        shape.backward(given, mask.as_ref().map(slice), saved, slice(&dy), dq, &mut dkv);
                    });
                    recycle(dy);
                    [Some(dq), Some(tensor(dkv, kv.layout().shape().clone())), None]
                };
                (o, Arc::new(backward))
            },
            |[q, kv, mask]| {
                let [q, kv] = present([q, kv]);
                <Flex as NetworkOps>::attention(q, kv, mask.into(), heads)
            },
        )
    }

    fn dense(x: Tracked<C>, w: Tracked<C>, b: Tracked<C>, residual: Maybe<Self>, scale: f32) -> Tracked<C> {
        record::<C, 4>(
            "dense",
            [Some(x), Some(w), Some(b), residual.into_option()],
            |[x, w, b, r]| {
                let [x, w, b] = present([x, w, b]);
                let (linear, shape) = linear_shape(&x, &w);
                let y = filled(shape, |y| multiply_once(linear, slice(&x), &w, &b, r.as_ref().map(slice), scale, y));
                let x = Saved::from(x);
                let backward = move |wanted: [bool; 4], dy: T| {
                    let input = |dy: &[f32], w: &T, dx: &mut [f32]| {
                        let _span = trace_span!("gradient of input").entered();
                        linear.grad_input(dy, slice(w), dx);
                    };
                    let weight = |x: &[f32], dy: &[f32], dw: &mut [f32], db: &mut [f32]| {
                        linear.grad_weight(x, dy, dw, Some(db));
                    };
                    affine_gradients(wanted, scaled_gradient(dy, scale), [&x, &w], linear.k, input, weight)
                };
                (y, Arc::new(backward))
            },
            |[x, w, b, r]| {
                let [x, w, b] = present([x, w, b]);
                <Flex as NetworkOps>::dense(x, w, b, r.into(), scale)
            },
        )
    }

    fn gelu(x: Tracked<C>) -> Tracked<C> {
        record_one::<C, _>("gelu", x, <Flex as NetworkOps>::gelu, |x| {
            let x = Saved::from(x.clone());
            move |dy| {
                let mut dx = owned(dy);
                elementwise::gelu_backward(slice(&x), dx.storage_mut::<f32>());
                dx
            }
        })
    }

    fn upsample2(x: Tracked<C>) -> Tracked<C> {
        record_one::<C, _>("upsample2", x, <Flex as NetworkOps>::upsample2, |x| {
            resampled(dims(x), resample::upsample2_backward)
        })
    }

    fn average_pool2(x: Tracked<C>) -> Tracked<C> {
        record_one::<C, _>("average_pool2", x, <Flex as NetworkOps>::average_pool2, |x| {
            resampled(dims(x), resample::average_pool2_backward)
        })
    }

    fn pixel_shuffle(x: Tracked<C>) -> Tracked<C> {
        record_one::<C, _>("pixel_shuffle", x, <Flex as NetworkOps>::pixel_shuffle, |x| {
            let [n, h, w, c4] = dims(x);
            move |dy| {
                let dx = filled([n, h, w, c4], |dx| {
                    resample::pixel_shuffle_backward(slice(&dy), n, h, w, c4 / 4, dx);
                });
                recycle(dy);
                dx
            }
        })
    }

    fn concat(a: Tracked<C>, b: Tracked<C>) -> Tracked<C> {
        record::<C, 2>(
            "concat",
            [Some(a), Some(b)],
            |inputs| {
                let [a, b] = present(inputs);
                let (ca, cb, _) = concat_shape(&a, &b);
                let (sa, sb) = (a.layout().shape().clone(), b.layout().shape().clone());
                let backward = move |_: [bool; 2], dy: T| {
                    let mut db = pool::take(sb.num_elements());
                    let da = filled(sa.clone(), |da| elementwise::split(slice(&dy), ca, cb, da, &mut db));
                    recycle(dy);
                    [Some(da), Some(tensor(db, sb.clone()))]
                };
                (<Flex as NetworkOps>::concat(a, b), Arc::new(backward))
            },
            |inputs| {
                let [a, b] = present(inputs);
                <Flex as NetworkOps>::concat(a, b)
            },
        )
    }

    fn add_scaled(a: Tracked<C>, b: Tracked<C>, scale: f32) -> Tracked<C> {
        record::<C, 2>(
            "add_scaled",
            [Some(a), Some(b)],
            |inputs| {
                let [a, b] = present(inputs);
                let backward = move |_: [bool; 2], dy: T| {
                    let dy = scaled_gradient(dy, scale);
                    [Some(dy.clone()), Some(dy)]
                };
                (<Flex as NetworkOps>::add_scaled(a, b, scale), Arc::new(backward))
            },
            |inputs| {
                let [a, b] = present(inputs);
                <Flex as NetworkOps>::add_scaled(a, b, scale)
            },
        )
    }

    fn adam(
        _: Tracked<C>,
        _: Tracked<C>,
        _: Tracked<C>,
        _: Tracked<C>,
        _: Tracked<C>,
        _: Adam,
    ) -> (Tracked<C>, Tracked<C>, Tracked<C>, Tracked<C>) {
        panic!("an optimizer step is not differentiable; `train` calls it on inner tensors")
    }

    fn adafactor(
        _: Tracked<C>,
        _: Tracked<C>,
        _: Tracked<C>,
        _: Tracked<C>,
        _: Tracked<C>,
        _: AdafactorKind,
        _: AdafactorStep,
    ) -> (Tracked<C>, Tracked<C>, Tracked<C>, Tracked<C>) {
        panic!("an optimizer step is not differentiable; `train` calls it on inner tensors")
    }

    fn average(_: Tracked<C>, _: Tracked<C>, _: f64) -> Tracked<C> {
        panic!("a moving average is not differentiable; `train` calls it on inner tensors")
    }

    fn sum_of_squares(_: Tracked<C>) -> Tracked<C> {
        panic!("the gradient's norm is not differentiable; `train` calls it on inner tensors")
    }
}
