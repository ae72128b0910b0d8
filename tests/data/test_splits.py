from __future__ import annotations

import random

import pytest

from segkit.data.reader import Kind
from segkit.data.splits import leaks, source_of, split_by_source
from segkit.errors import DataError


@pytest.mark.parametrize(
    ("stem", "source"),
    [
        ("a", "a"),
        ("a.aug0", "a"),
        ("d/a.0001.aug12", "d/a.0001"),
        ("a.aug1.aug2", "a"),
        ("a.aug", "a.aug"),
        (".aug1", ".aug1"),
        ("idx_7_rot_", "idx_7"),
        ("d/idx_7_org_", "d/idx_7"),
        ("idx_7", "idx_7"),
    ],
)
def test_copies_are_known_by_their_names(stem: str, source: str) -> None:
    assert source_of(stem) == source


def test_copies_of_an_image_are_never_on_both_sides() -> None:
    stems = [f"{i}.aug{n}" for i in range(40) for n in range(5)] + [str(i) for i in range(40)]
    splits = split_by_source(stems, val_share=0.25)
    sources = {split: {source_of(stem) for stem in stems} for split, stems in splits.items()}
    assert not sources["train"] & sources["val"]
    assert len(sources["val"]) == 10
    assert len(splits["val"]) == 60
    assert sorted(splits["train"] + splits["val"]) == sorted(stems)


def test_the_split_does_not_depend_on_the_order_but_on_the_seed() -> None:
    stems = [f"frame_{i:03}" for i in range(100)]
    shuffled = random.Random(1).sample(stems, len(stems))
    assert split_by_source(stems, val_share=0.1) == split_by_source(shuffled, val_share=0.1)
    assert split_by_source(stems, val_share=0.1) != split_by_source(stems, val_share=0.1, seed=1)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_each_side_gets_at_least_one_image(share: float) -> None:
    splits = split_by_source(["a", "b"], val_share=share)
    assert [len(stems) for stems in splits.values()] == [1, 1]


def test_one_source_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match="1 source images"):
        split_by_source(["a", "a.aug1"], val_share=0.1)


def test_copies_in_two_splits_are_a_leak() -> None:
    (leak,) = leaks({"train": ["a", "b"], "val": ["a.aug1"]})
    assert leak.kind is Kind.LEAK and leak.file == "a.aug1"
    assert "'a' is in train and 'a.aug1' in val" in leak.problem
    assert not leaks({"train": ["a", "a.aug1"], "val": ["b"]})
