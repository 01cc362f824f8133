"""docs/settings.md has every key of conf/, with its comment in the YAML and its value in Hydra's config."""

import re
from pathlib import Path

import pytest

from samgap.reference import settings
from tests.conftest import config

PAGE = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()
ROWS = {
    row[0]: row[1:] for row in re.findall(r"^\| `([\w.]+)` \| (.*) \| (.*) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
}


def test_the_page_is_what_the_command_prints() -> None:
    assert settings.page() == PAGE, "python -m samgap.reference.settings > docs/settings.md"


def test_every_key_has_a_meaning() -> None:
    assert [key for key, (*_, meaning) in ROWS.items() if not meaning] == []


@pytest.mark.parametrize(("group", "choice"), [("data", "fashion_mnist_jpeg"), ("pruner", "snip"), ("trainer", "auto")])
def test_values_are_those_of_hydra(group: str, choice: str) -> None:
    mine = settings.values(f"{group}/{choice}")
    of_hydra = config(f"{group}={choice}")[group]
    assert mine.keys() == of_hydra.keys()
    assert {key: value for key, value in of_hydra.items() if "$" not in str(mine[key])}.items() <= mine.items()


def test_identity_and_unit_of_a_key() -> None:
    parts = {key: ROWS[key][1:3] for key in ("data.holdout", "trainer.checkpoint_seconds", "model.params", "name")}
    assert parts == {
        "data.holdout": ("yes", "images"),
        "trainer.checkpoint_seconds": ("no", "seconds"),
        "model.params": ("as `model.width`", "parameters"),
        "name": ("no", ""),
    }
    assert ROWS["model.batch_norm"][1].startswith("as the number of images")


def test_a_comment_goes_on_below_its_key() -> None:
    value, comment = settings.keys("draw")["source"]
    assert value == "records"
    assert comment.startswith("records = ")
    assert comment.endswith("nothing to W&B")
