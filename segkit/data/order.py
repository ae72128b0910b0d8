"""The order in which training sees examples: a function of seed and pass, so it begins anywhere."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from tensorflow.data.experimental import from_variant, to_variant

__all__ = ["shuffled_passes"]


def shuffled_passes(
    blocks: Sequence[tf.data.Dataset], *, seed: int, room: int | None = None, start: int = 0
) -> tf.data.Dataset:
    """Endless passes over examples, each in another order.

    A pass takes the blocks in a shuffled order, and shuffles what comes out of them once more. The
    order of each follows from seed and number of the pass alone: to begin in the middle, no earlier
    pass is read.

    Args:
        blocks: The examples, in parts of known number.
        seed: Another seed gives other orders.
        room: Examples that are shuffled with each other; all of a pass if None.
        start: Examples that lie behind.

    Returns:
        Pairs of the number of an example since the first pass, int64, and the example.

    Raises:
        ValueError: There are no examples.
    """
    count = sum(int(block.cardinality()) for block in blocks)
    if count == 0:
        raise ValueError("there are no examples to train on")
    element_spec = blocks[0].element_spec
    variants = [to_variant(block) for block in blocks]

    def block(number: tf.Tensor) -> tf.data.Dataset:
        branches = [lambda variant=variant: variant for variant in variants]
        return from_variant(tf.switch_case(tf.cast(number, tf.int32), branches), element_spec)

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        # As far apart as no run has passes: seed 1 never walks behind seed 2.
        drawn = number + (seed << 32)
        examples = blocks[0]
        if len(blocks) > 1:
            order = tf.data.Dataset.range(len(blocks))
            order = order.shuffle(len(blocks), seed=drawn, reshuffle_each_iteration=False)
            examples = order.flat_map(block)
        return examples.shuffle(room or count, seed=drawn, reshuffle_each_iteration=False)

    passes, within = divmod(start, count)
    examples = tf.data.Dataset.range(passes, tf.int64.max).flat_map(one_pass)
    return examples.enumerate(passes * count).skip(within)
