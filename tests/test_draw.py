"""The last lines of the command draw, and how sentences show values."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from samgap.draw import REFERENCE, what_next
from samgap.errors import said


def test_after_a_toy_stands_what_came_on_real_data_and_the_command_for_it() -> None:
    came = json.loads((REFERENCE / "fig8" / "cpu" / "fig8.json").read_text())
    first, second = what_next("fig8").split("\n")
    assert first.startswith("The pipeline works here. The numbers above mean nothing")
    minutes = came["provenance"]["core_seconds"] / 60
    assert second.startswith(f"On real data, {came['data']}, as it came with samgap: 2 of 2 inconclusive (")
    assert "reference/results/fig8/cpu/fig8.png)" in second
    assert second.endswith(
        f"make reproduce-fig8 SCALE=cpu, about {minutes / 2:.0f} minutes on two cores ({minutes:.0f} core-minutes)."
    )
    assert "4 of 5 reproduced, 1 of 5 inconclusive" in what_next("fig11")
    assert "core-minutes, probes not counted)" in what_next("fig6")


def test_a_figure_without_a_result_has_the_command_alone_and_one_s_own_study_nothing() -> None:
    assert what_next("fig5").split("\n")[1] == "On real data: make reproduce-fig5 SCALE=cpu."
    assert what_next("mine").count("\n") == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"), (0.1, "0.1"), (None, "null"), ([0.1, "a", None], '[0.1, "a", null]'), ((1, 2), "[1, 2]"),
        ({"a": np.float64(0.1)}, '{"a": 0.1}'), (np.int64(3), "3"), (np.array([1.5]), "[1.5]"),
        (torch.tensor(2), "2"), (len, "\"<built-in function len>\""),
    ],
)  # fmt: skip
def test_sentences_show_values_as_they_are_typed(value: Any, text: str) -> None:
    assert said(value) == text
