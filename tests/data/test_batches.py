from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from samgap.data import digits
from samgap.data.batches import Batch, Draw, EpochSampler, TensorImages, batches
from samgap.data.sets import Data, assemble

CPU = torch.device("cpu")


def make(**options: Any) -> Data:
    return assemble(digits.load, Path(), channels=1, classes=10, size=8, mean=[0], std=[1], **options)


def epoch(data: Data, number: int, seed: int = 0) -> list[Batch]:
    loader = batches(EpochSampler(data, 128, seed), CPU)
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return [batch for block in loader for batch in block]


def test_an_epoch_has_every_image_once_and_a_smaller_last_batch() -> None:
    data = make(train_size=300)
    found = epoch(data, 0)
    assert [len(batch.labels) for batch in found] == [128, 128, 44] == [batch.size for batch in found]
    images = torch.cat([batch.images for batch in found])
    assert {i.numpy().tobytes() for i in images} == {i.numpy().tobytes() for i in data.train.images}


def test_order_follows_seed_and_epoch_alone() -> None:
    data = make(train_size=300)
    first = epoch(data, 3, seed=0)
    torch.manual_seed(99)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, epoch(data, 3, seed=0), strict=True))
    assert not torch.equal(first[0][1], epoch(data, 4, seed=0)[0][1])
    assert not torch.equal(first[0][1], epoch(data, 3, seed=1)[0][1])


def test_batches_leave_the_global_generator_alone() -> None:
    data = make(train_size=300, crop=1, flip=True)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    epoch(data, 0)
    assert torch.equal(before, torch.get_rng_state())


def test_crop_and_flip_equal_the_plain_loop() -> None:
    data = make(crop=2, flip=True)
    generator = torch.Generator().manual_seed(1)
    draw = Draw(
        64,
        torch.randint(0, len(data.train), (64,), generator=generator).numpy(),
        torch.randint(0, 5, (64, 2), generator=generator).numpy(),
        (torch.rand(64, generator=generator) < 0.5).numpy(),
    )
    images, labels, _ = TensorImages(data, data.train.images, CPU)[draw]()
    for row, (position, (top, left), flip) in enumerate(zip(*draw[1:4], strict=True)):
        padded = F.pad(data.train.images[position].float(), [2, 2, 2, 2])
        expected = padded[:, top : top + 8, left : left + 8]
        assert torch.equal(images[row], expected.flip(2) if flip else expected)
        assert labels[row] == data.train.labels[position]


def test_augmentation_uses_every_offset_and_both_sides() -> None:
    data = make(crop=1, flip=True)
    draws = list(EpochSampler(data, 128, 0))
    offsets, flips = np.concatenate([d.offsets for d in draws]), np.concatenate([d.flips for d in draws])
    assert (np.bincount(offsets.flatten(), minlength=3) > 300).tolist() == [True] * 3
    assert 400 < int(flips.sum()) < 800


def test_without_augmentation_images_come_as_they_are() -> None:
    data = make(crop=0, flip=False)
    draws = list(EpochSampler(data, 128, 0))
    assert not any(d.offsets.any() or d.flips.any() for d in draws)


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_have_consecutive_parts_of_the_same_batches(ranks: int) -> None:
    # The last batch has 44 images: with four ranks of 32, the second has 12 and the others none.
    data = make(train_size=300, crop=1, flip=True)
    parts = [
        [batch for block in batches(EpochSampler(data, 128, 0, rank, ranks), CPU) for batch in block]
        for rank in range(ranks)
    ]
    for whole, *shards in zip(epoch(data, 0), *parts, strict=True):
        assert torch.equal(whole.images, torch.cat([part.images for part in shards]))
        assert torch.equal(whole.labels, torch.cat([part.labels for part in shards]))
        assert {part.size for part in shards} == {whole.size}
    assert [len(part[-1].labels) for part in parts] == ([44, 0] if ranks == 2 else [32, 12, 0, 0])
