from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from samgap.cli import explain
from samgap.data import digits, factorization
from samgap.data.sets import Data, Normalize, Raw, Split, add_noise, assemble
from samgap.errors import SettingError

OPTIONS: dict[str, Any] = {"channels": 1, "classes": 10, "size": 8, "mean": [0], "std": [1]}


def make(**options: Any) -> Data:
    return assemble(digits.load, Path(), **(OPTIONS | options))


def same(a: Split, b: Split) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


def rows(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def test_digits_are_all_there_and_split_once_for_all() -> None:
    raw = digits.load(Path())
    assert (len(raw.train), len(raw.test)) == (1200, 597)
    assert same(raw.train, digits.load(Path()).train)
    assert len(rows(raw.train) | rows(raw.test)) == 1797
    assert raw.train.images.max() == raw.max_pixel == 16


def test_parts_do_not_overlap_and_leave_the_test_alone() -> None:
    data = make(train_size=900, holdout=200)
    assert (len(data.train), len(data.test)) == (900, 597)
    assert data.holdout is not None
    assert len(data.holdout) == 200
    assert not rows(data.train) & rows(data.holdout)
    assert same(data.test, digits.load(Path()).test)


def test_without_a_size_training_takes_what_the_holdout_leaves() -> None:
    assert len(make(holdout=200).train) == 1000
    assert make().holdout is None


def test_a_larger_subset_holds_the_smaller_one() -> None:
    assert rows(make(train_size=100).train) < rows(make(train_size=300).train)


def test_the_deal_depends_on_its_seed() -> None:
    assert same(make(train_size=100, seed=0).train, make(train_size=100, seed=0).train)
    assert not same(make(train_size=100, seed=0).train, make(train_size=100, seed=1).train)


@pytest.mark.parametrize(("train_size", "holdout"), [(1200, 1), (1201, 0), (None, 1200)])
def test_parts_that_do_not_fit_are_refused(train_size: int | None, holdout: int) -> None:
    with pytest.raises(SettingError, match=r"lower data\.train_size or data\.holdout"):
        make(train_size=train_size, holdout=holdout)


def test_unused_images_are_all_the_others_with_clean_labels() -> None:
    data, asked = make(train_size=100, holdout=500, label_noise=0.5), make(
        train_size=100, holdout=500, label_noise=0.5, score_unused=True
    )  # fmt: skip
    assert data.unused is None
    assert asked.unused is not None
    assert asked.holdout is not None
    assert len(asked.unused) == 600
    assert not rows(asked.unused) & (rows(asked.train) | rows(asked.holdout) | rows(asked.test))
    raw = digits.load(Path()).train
    labels = {image.numpy().tobytes(): int(label) for image, label in zip(raw.images, raw.labels, strict=True)}
    assert [labels[image.numpy().tobytes()] for image in asked.unused.images] == asked.unused.labels.tolist()
    assert same(asked.train, data.train)
    assert asked.sha256() != data.sha256()


@pytest.mark.parametrize("settings", [{}, {"train_size": 1000, "holdout": 200}])
def test_to_score_unused_images_needs_some(settings: dict[str, int]) -> None:
    with pytest.raises(SettingError, match=r"set it to false, or lower data\.train_size"):
        make(score_unused=True, **settings)


@pytest.mark.parametrize("rate", [0, 0.1, 0.25, 0.5, 0.75, 1])
@pytest.mark.parametrize("count", [10, 997])
def test_noise_replaces_exactly_its_share(rate: float, count: int) -> None:
    labels = torch.arange(count) % 10
    noisy = add_noise(labels, rate, 10, seed=3)
    assert int((noisy != labels).sum()) == round(rate * count)
    assert noisy.min() >= 0
    assert noisy.max() <= 9


def test_noise_is_uniform_over_the_wrong_classes() -> None:
    noisy = add_noise(torch.full((90_000,), 4), 1.0, 10, seed=0)
    counts = torch.bincount(noisy, minlength=10)
    assert counts[4] == 0
    # The expected count of each is 10,000 with a standard deviation of 94.
    assert (counts[torch.arange(10) != 4] - 10_000).abs().max() < 400


def test_less_noise_is_a_part_of_more() -> None:
    labels = torch.arange(1000) % 10
    less, more = (add_noise(labels, rate, 10, seed=0) for rate in (0.25, 0.5))
    changed = less != labels
    assert torch.equal(less[changed], more[changed])


def test_held_out_labels_stay_clean() -> None:
    clean, noisy = make(holdout=200), make(holdout=200, label_noise=0.5)
    assert clean.holdout is not None
    assert noisy.holdout is not None
    assert same(clean.holdout, noisy.holdout)
    assert same(clean.test, noisy.test)
    assert torch.equal(clean.train.images, noisy.train.images)
    assert int((clean.train.labels != noisy.train.labels).sum()) == 500


def test_resizing_averages() -> None:
    data = make(size=4)
    assert data.shape == (1, 4, 4)
    whole = make()
    assert data.test.images[5, 0, 1, 2].item() == pytest.approx(whole.test.images[5, 0, 2:4, 4:6].float().mean().item())


def test_scaling_standardizes_by_channel() -> None:
    split = Split(torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8), torch.tensor([0]))
    normalize = Normalize(255, mean=(0.5, 0.2), std=(0.5, 0.1))
    assert torch.allclose(normalize(split.images), torch.tensor([[[[-1.0, 1.0]], [[0.0, 2.0]]]]), atol=1e-6)


class Reciprocals(TorchDispatchMode):
    """Divides by a number as CUDA does: it multiplies by the reciprocal, which rounds differently."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.div.Tensor and not (isinstance(args[1], Tensor) and args[1].ndim):
            return args[0] * (1 / args[1])
        return function(*args, **(kwargs or {}))


def test_inputs_are_the_same_bit_for_bit_on_cpu_and_gpu() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    normalize, divided = Normalize(255, mean=(0.1307,), std=(0.3081,)), images.float() / 255
    with Reciprocals():
        as_on_cuda = normalize(images)
        assert not torch.equal(images.float() / 255, divided)  # the mode does divide otherwise
    assert torch.equal(as_on_cuda, normalize(images))


def test_a_data_set_that_is_another_is_refused() -> None:
    def load(folder: Path) -> Raw:
        return digits.load(folder)

    with pytest.raises(
        SettingError, match=r"data\.channels and data\.classes must be 1 and 10 for these data, got 3 and 10: set"
    ):
        assemble(load, Path(), **(OPTIONS | {"channels": 3}))


@pytest.mark.parametrize(
    ("large", "at_once"),
    [
        (lambda: make(size=10**6), " (4800000000000000 bytes at once)"),
        (lambda: make(size=10**9), ""),
        (lambda: np.empty(2**57), " (1.00 EiB at once)"),
        (lambda: bytes(2**60), ""),
        (lambda: nn.Linear(2**62, 2**62), ""),
        (lambda: nn.Linear(10**300, 1), ""),
    ],
)
def test_a_size_beyond_the_machine_is_one_sentence(large: Callable[[], object], at_once: str) -> None:
    with pytest.raises((MemoryError, OverflowError, RuntimeError, TypeError, ValueError)) as error:
        large()
    assert explain(error.value) == (
        f"This machine has too little memory{at_once}: lower what is large, such as model.width, "
        "data.size, data.train_size, batch_size, trainer.micro_batch or trainer.workers."
    )


def test_other_errors_of_torch_are_nobody_s_to_put_right() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert explain(error.value) is None


def test_a_factorization_has_the_singular_values_that_were_requested() -> None:
    for condition in (1, 10, 1e4):
        values = torch.linalg.svdvals(factorization.matrix(condition))
        assert values.tolist() == pytest.approx(torch.logspace(0, -1, 6, base=condition).tolist(), rel=1e-5)


def test_the_targets_of_a_factorization_are_its_matrix_times_its_inputs() -> None:
    options = {"channels": 6, "classes": 10, "size": 1, "mean": [0] * 6, "std": [1] * 6, "condition": 100}
    data = assemble(factorization.load, Path(), **options)
    assert data.regression
    assert not make().regression
    assert (len(data.train), len(data.test), data.shape) == (1000, 1000, (6, 1, 1))
    x = data.normalize(data.train.images).flatten(1)
    torch.testing.assert_close(data.train.labels, x.double() @ factorization.matrix(100).T)
    assert x.mean().abs() < 0.05
    assert x.std() == pytest.approx(1, abs=0.05)
    with pytest.raises(SettingError, match=r"data\.label_noise replaces classes"):
        assemble(factorization.load, Path(), **options, label_noise=0.1)
    with pytest.raises(
        SettingError, match=r"data\.channels and data\.classes must be 6 and 10 for these data, got 6 and 9: set them\."
    ):
        assemble(factorization.load, Path(), **(options | {"classes": 9}))


def test_inputs_do_not_depend_on_the_default_dtype() -> None:
    normalize = Normalize(255, (0.1307,), (0.3081,))
    images = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    expected = normalize(images)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)  # as Lightning does within a step in 64 bits
        found = normalize(images)
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == expected.dtype == torch.float32
    assert torch.equal(found, expected)
