//! Sums whose order depends on the places of the summands alone: a binary tree over 0, 1, 2 …, whoever holds which of them.
//!
//! Two neighbours are added first, then two such pairs, and so on; what is left over at the right end is added from right to
//! left. A rank that holds a stretch of places sums the largest whole branches in it; [`summed`] puts those of all ranks
//! together. So the sum has the same bits with any number of ranks, one included.

use std::ops::Range;

use super::Group;
use crate::error::Result;

/// Floats that are summed between ranks at a time.
const BLOCK: usize = 1 << 20;

/// A branch of the tree: `len` places from `first` on, with their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<T> {
    /// The first place.
    pub first: usize,
    /// How many places: a power of two that divides `first`.
    pub len: usize,
    /// The sum.
    pub sum: T,
}

/// A sum that grows place by place, or branch by branch, from left to right.
#[derive(Debug)]
pub struct TreeSum<T>(Vec<Node<T>>);

impl<T> Default for TreeSum<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> TreeSum<T> {
    /// Takes the next branch in; branches that are complete are added by `add(left, right)`.
    pub fn push(&mut self, mut node: Node<T>, mut add: impl FnMut(T, T) -> T) {
        while node.first % (2 * node.len) == node.len
            && let Some(left) = self.0.pop_if(|left| left.len == node.len && left.first + left.len == node.first)
        {
            node = Node { first: left.first, len: 2 * node.len, sum: add(left.sum, node.sum) };
        }
        self.0.push(node);
    }

    /// The branches so far, from left to right.
    pub fn nodes(&self) -> &[Node<T>] {
        &self.0
    }

    /// The branches, from left to right.
    pub fn into_nodes(self) -> Vec<Node<T>> {
        self.0
    }

    /// The sum of all; none where there was nothing.
    pub fn total(mut self, mut add: impl FnMut(T, T) -> T) -> Option<T> {
        let mut total = self.0.pop()?.sum;
        while let Some(left) = self.0.pop() {
            total = add(left.sum, total);
        }
        Some(total)
    }
}

/// The places, of so many, that a rank has.
pub fn share_of(places: usize, rank: usize, ranks: usize) -> Range<usize> {
    rank * places / ranks..(rank + 1) * places / ranks
}

/// First place and length of the branches that a rank with these places ends with.
fn branches(places: Range<usize>) -> Vec<Node<()>> {
    let mut sum = TreeSum::default();
    places.for_each(|first| sum.push(Node { first, len: 1, sum: () }, |(), ()| ()));
    sum.into_nodes()
}

/// The sum over all ranks of values that are laid out alike, on all of them: `own` are this rank's branches of `places` places
/// that are dealt by [`share_of`].
///
/// Each rank sums a stretch of the values for all of them: what it receives is as much as it sends, about the length of the
/// values for each branch, and again once for the sums.
///
/// # Errors
/// `Io` where a rank is gone.
pub fn summed(group: &Group, own: Vec<Node<Vec<f32>>>, places: usize) -> Result<Vec<f32>> {
    let length = own.first().map_or(0, |node| node.sum.len());
    let mut total = vec![0.0; length];
    for start in (0..length).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(length);
        let parts: Vec<&[f32]> = own.iter().map(|node| &node.sum[block.clone()]).collect();
        sum_block(group, &parts, places, &mut total[block])?;
    }
    Ok(total)
}

fn sum_block(group: &Group, own: &[&[f32]], places: usize, total: &mut [f32]) -> Result<()> {
    let (rank, size, length) = (group.rank(), group.size(), total.len());
    let stretch = |of: usize| share_of(length, of, size);
    let branches: Vec<Vec<Node<()>>> = (0..size).map(|of| branches(share_of(places, of, size))).collect();
    let mine = stretch(rank);
    let cut = |of: usize| own.iter().flat_map(|part| part[stretch(of)].iter().copied()).collect::<Vec<f32>>();
    let mut received: Vec<Vec<f32>> = vec![Vec::new(); size];
    for (to, from) in group.rounds() {
        let mut values = vec![0.0f32; branches[from].len() * mine.len()];
        group.exchange(to, bytemuck::cast_slice(&cut(to)), from, bytemuck::cast_slice_mut(&mut values))?;
        received[from] = values;
    }
    received[rank] = cut(rank);
    if !mine.is_empty() {
        let mut tree = TreeSum::default();
        let nodes =
            branches.iter().zip(&received).flat_map(|(nodes, values)| nodes.iter().zip(values.chunks(mine.len())));
        nodes
            .for_each(|(node, values)| tree.push(Node { first: node.first, len: node.len, sum: values.to_vec() }, add));
        total[mine.clone()].copy_from_slice(&tree.total(add).expect("every place has a summand"));
    }
    for (to, from) in group.rounds() {
        let sent = total[mine.clone()].to_vec();
        let theirs = stretch(from);
        group.exchange(to, bytemuck::cast_slice(&sent), from, bytemuck::cast_slice_mut(&mut total[theirs]))?;
    }
    Ok(())
}

/// The left values with the right ones added.
fn add(mut left: Vec<f32>, right: Vec<f32>) -> Vec<f32> {
    left.iter_mut().zip(right).for_each(|(left, right)| *left += right);
    left
}
