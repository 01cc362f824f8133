"""kill -9 at random moments; `python -m tests.kills` does it as often as one likes."""

from tests.kills import kills


def test_a_sweep_that_is_killed_at_random_ends_like_an_undisturbed_one_and_leaves_nothing_behind() -> None:
    told: list[str] = []
    assert kills(3, "cores", 1, told.append) == 0, "\n".join(told)
