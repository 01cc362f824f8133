import math

import numpy as np
import pytest

from samgap.figures.gap.images import split


def test_noise_of_seeds_and_images_that_only_add_up_is_distinguished() -> None:
    of_seed, of_image = np.array([-1.0, 0.5, 2.0]), np.array([0.0, 4.0, -4.0, 1.0])
    found = split(of_seed[:, None] + of_image)
    sd = of_seed.std(ddof=1)
    assert (found["seeds"], found["images"], found["gap"]) == (3, 4, pytest.approx(0.75))
    assert found["sd"] == found["sd_seeds"] == pytest.approx(sd)
    assert found["sd_images"] == pytest.approx(0)
    assert found["se"] == pytest.approx(sd / math.sqrt(3))
    assert found["se_both"] == pytest.approx(math.sqrt(sd**2 / 3 + of_image.var(ddof=1) / 4))


def test_known_noise_is_found() -> None:
    # Standard deviations: seed .5, image 10, interaction 20; 3,000 images and 400 seeds.
    random = np.random.default_rng(0)
    seeds, images = 400, 3_000
    gaps = 0.5 * random.standard_normal((seeds, 1)) + 10 * random.standard_normal(images)
    found = split(gaps + 20 * random.standard_normal((seeds, images)))
    of_images = 20 / math.sqrt(images)
    assert found["sd_seeds"] == pytest.approx(0.5, rel=0.1)
    assert found["sd_images"] == pytest.approx(of_images, rel=0.01)
    assert found["sd"] == pytest.approx(math.hypot(0.5, of_images), rel=0.1)
    assert found["se_both"] == pytest.approx(math.hypot(found["se"], 10 / math.sqrt(images)), rel=0.02)


def test_without_noise_of_seeds_all_of_it_is_of_images() -> None:
    found = split(np.random.default_rng(1).standard_normal((5, 10_000)))
    assert found["sd_seeds"] < 0.01
    assert found["sd"] == pytest.approx(0.01, rel=0.8)
    assert found["sd_images"] == pytest.approx(0.01, rel=0.02)
