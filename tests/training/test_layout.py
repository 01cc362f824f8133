"""The layout determines which examples share an ascent, for any number of ranks."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samgap.errors import SettingError
from samgap.training.layout import Layout, layout


def make(
    size: int, m: int | None, ranks: int, micro: int | None = None, rho: float = 0.1, batch_norm: bool = False
) -> Layout:
    model = {"batch_norm": "local"} if batch_norm else {}
    settings = {"batch_size": size, "ascent": {"m": m, "rho": rho}, "model": model}
    return layout(settings, ranks, micro)


@pytest.mark.parametrize(
    ("size", "m", "ranks", "expected"),
    [
        (128, None, 1, (128, 1, 128)),
        (128, 500, 1, (128, 1, 128)),
        (128, 48, 1, (48, 1, 48)),
        (128, 64, 2, (64, 1, 64)),
        (128, 16, 2, (16, 1, 16)),
        (128, None, 4, (128, 4, 32)),
        (128, 64, 4, (64, 2, 32)),
    ],
)
def test_m_span_and_forward(size: int, m: int | None, ranks: int, expected: tuple[int, int, int]) -> None:
    found = make(size, m, ranks)
    assert (found.m, found.span, found.forward) == expected


@pytest.mark.parametrize(
    ("size", "m", "ranks", "message"),
    [
        (10, None, 4, r"batch_size must be a multiple of trainer\.devices \(4\), got 10"),
        (128, 48, 2, r"ascent\.m must divide the 64 examples of a device.*got 48"),
        (96, 64, 3, r"ascent\.m must divide the 32 examples of a device.*got 64"),
    ],
)
def test_what_does_not_divide_is_refused(size: int, m: int | None, ranks: int, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make(size, m, ranks)


@given(st.integers(1, 4), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4, 8, 16]), st.data())
def test_ranks_deal_the_groups_of_one_process(k: int, ranks: int, m: int, data: Any) -> None:
    # Each example is in exactly one group and has the same weight in the mean, for any number of ranks.
    size = 4 * k * ranks
    try:
        shards, whole = make(size, m, ranks), make(size, m, 1)
    except SettingError:
        return
    batch = data.draw(st.integers(1, size))
    expected = {example: (g.start, g.size) for g in whole.groups(batch, 0) for example in range(g.start, g.stop)}
    local, found, shares = size // ranks, {}, 0.0
    for rank in range(ranks):
        for group in shards.groups(batch, rank):
            first = rank * local + group.start
            start = first if shards.span == 1 else rank // shards.span * shards.m
            found |= {example: (start, group.size) for example in range(first, rank * local + group.stop)}
            shares += group.share
    assert found == expected
    # If all ranks share one group, each has the whole gradient, which is not summed again.
    assert shares == pytest.approx(ranks if shards.span == ranks else 1)


def test_a_rank_without_examples_has_a_part_of_its_group_or_none() -> None:
    # 20 examples of batches of 64 on four ranks: ranks 2 and 3 have none.
    assert [len(make(64, 16, 4).groups(20, rank)) for rank in range(4)] == [1, 1, 0, 0]
    assert [len(make(64, 32, 4).groups(20, rank)) for rank in range(4)] == [1, 1, 0, 0]
    parts = [make(64, None, 4).groups(20, rank)[0] for rank in range(4)]
    assert [(part.stop - part.start, part.size) for part in parts] == [(16, 20), (4, 20), (0, 20), (0, 20)]


def test_micro_batches_bound_the_forward_pass_alone() -> None:
    found = make(128, None, 2, micro=10)
    assert (found.m, found.forward) == (128, 10)


def test_without_ascents_m_is_what_batch_norm_sees_or_nothing() -> None:
    assert make(128, 32, 1, rho=0).m == 128
    assert make(128, 32, 1, rho=0, batch_norm=True).m == 32


def test_parts_that_batch_norm_would_see_are_equal() -> None:
    # Parts of 18, 18, 12 and of 18, 6, 18, 6 would otherwise have the same identity.
    with pytest.raises(SettingError, match=r"micro_batch must divide the 48 examples .* got 18"):
        make(48, None, 1, micro=18, batch_norm=True)
    assert make(48, 24, 1, micro=12, batch_norm=True).forward == 12
    assert make(48, None, 1, micro=18).forward == 18


def test_a_device_without_images_is_refused_where_batch_norm_waits_for_all() -> None:
    with pytest.raises(SettingError, match=r"some device has none, and model\.batch_norm=synchronized needs all"):
        Layout(64, 64, 2, 32).check_batch_norm(64 + 20, synchronized=True)
    Layout(64, 64, 2, 32).check_batch_norm(64 + 40, synchronized=True)
