"""kill -9 at random moments; `python -m tests.kills` does it as often as one likes."""

import pytest

from tests.kills import kills

pytestmark = pytest.mark.filterwarnings("ignore:os.fork")


@pytest.mark.parametrize(("launcher", "seed"), [("basic", 0), ("cores", 1)])
def test_a_sweep_that_is_killed_again_and_again_ends_as_an_undisturbed_one(launcher: str, seed: int) -> None:
    told: list[str] = []
    assert kills(2, launcher, seed, told.append) == 0, "\n".join(told)
