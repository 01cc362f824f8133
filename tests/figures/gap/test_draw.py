from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from samgap import style
from samgap.errors import SettingError
from samgap.figures import heading, output, picture, published
from samgap.figures.gap import study as studies
from samgap.figures.gap.beside import side_by_side
from samgap.figures.gap.charts import label
from samgap.figures.gap.gaps import gaps
from samgap.figures.gap.kinds import Gap
from samgap.figures.gap.series import Question
from samgap.figures.gap.trend import verdicts
from samgap.figures.output import Study
from samgap.figures.table import Table
from tests.figures.tables import table
from tests.runs.test_records import make

SETTINGS: dict[str, Any] = {"title": "Figure 8: what SAM gains", "published_data": "CIFAR-10"}


def runs(**options: Any) -> Table:
    def acc(width: float, rho: float, seed: int) -> float:
        return 0.8 + 0.02 * width + rho * width / 50 + 0.001 * seed

    found: Table = table(acc, **options)
    found.records.append(make())
    return found


def question(reference: str | None = "fig8", **options: Any) -> Question:
    theirs = published.load(reference) if reference else None
    return Question(gaps(runs(**options)), "params_total", None, theirs)


def study(reference: str | None = "fig8", protocol: str = "paper", **options: Any) -> Study:
    asked = question(reference, **options)
    return studies.study(runs(**options), asked, verdicts(asked), protocol)  # type: ignore[arg-type]


def draw(study: Study, **settings: Any) -> Figure:
    kind = Gap(**SETTINGS, **settings)
    with style.style():
        return kind.draw(study.frame, output.report(study))


def drawn(**options: Any) -> Figure:
    return draw(study(**options))


def labels(figure: Figure, panel: int) -> list[str]:
    return list(figure.axes[panel].get_legend_handles_labels()[1])


def test_the_title_has_the_verdict_and_the_footnote_scale_data_and_seeds() -> None:
    known = study()
    (verdict,) = (verdict for verdict in known.verdicts if verdict.series == "")
    figure = draw(known)
    slope = "{slope:+.2f} [{slope_low:+.2f}, {slope_high:+.2f}], p = {p_up:.2g}".format(**vars(verdict))
    assert figure.get_suptitle() == f"Figure 8: what SAM gains\nreproduced (slope {slope})"
    assert figure.get_supxlabel() == "digits, 3 seeds, own scale"


def test_of_several_verdicts_the_title_has_a_line_for_each_series_or_for_each_claim() -> None:
    series = ("pruner.name=snip against pruner.name=random", "data.label_noise=0.5", "at equal rho (0.1)")
    verdicts = [{"series": name, "answer": "differs"} for name in series]
    assert heading.answer({"verdicts": verdicts}) == "snip against random: differs\nlabel_noise=0.5: differs"
    pairs = (("s_2 falls as rho grows", "reproduced"), ("linear", "void"), ("a <= 2/eta", "differs"))
    claims = [{"series": one, "claim": claim, "answer": answer} for one in "ab" for claim, answer in pairs]
    assert heading.answer({"verdicts": claims}) == "s₂ falls as ρ grows: 2 reproduced\na ≤ 2/η: 2 differs"
    assert heading.answer({"verdicts": claims[:1]}) == "a, s₂ falls as ρ grows: reproduced"
    assert heading.answer({"verdicts": [{"series": "", "answer": "differs", "p_up": np.nan}]}) == "differs"


def test_a_figure_for_a_paper_is_small_and_has_neither_title_nor_footnote() -> None:
    known, kind = study(), Gap(**SETTINGS)
    with style.style("paper"):
        figure = kind.draw(known.frame, output.report(known), titled=False)
    assert (figure.get_suptitle(), figure.get_supxlabel()) == ("", "")
    assert figure.get_size_inches()[0] < 7
    with pytest.raises(SettingError, match="style must be talk or paper, got 'slides'"), style.style("slides"):
        pass


def test_published_accuracies_stand_beside_ours_on_their_own_data_alone() -> None:
    known, ours = study(), ["SGD (all fit the training data)", "SAM"]
    assert labels(draw(known, replicates=True), 1) == [*ours, "SGD, published", "SAM, published"]
    assert labels(draw(known), 1) == ours


def test_the_title_says_what_diverged() -> None:
    bad = study()
    bad.table.records.append(make("seed=1", status="diverged", acc=None, train_acc_final=None))
    assert draw(bad).get_supxlabel().endswith("own scale, 1 runs diverged")


def test_the_gap_panel_has_ours_the_unbiased_and_the_published() -> None:
    figure = drawn()
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert "biases and batch norm included" in axes.get_xlabel()
    assert labels(figure, 0) == [
        "best ρ on the test set, as published (± s.e.)",
        "ρ chosen on the other seeds (95 % interval)",
        "published, CIFAR-10",
    ]
    # Bands: ours and the published one. Notes: our best rho, at sizes where it changes.
    assert len([c for c in axes.collections if "FillBetween" in type(c).__name__]) == 2
    assert [text.get_text() for text in axes.texts] == ["ρ=0.2"]


def test_the_numbers_drawn_are_the_table_s() -> None:
    figure, known = drawn(), pd.DataFrame(study().statistics["cells"])
    line = figure.axes[0].get_lines()[0]
    assert np.allclose(line.get_xdata(), known["params_total"])
    assert np.allclose(line.get_ydata(), known["paper_gap"])
    theirs = next(line for line in figure.axes[0].get_lines() if str(line.get_label()).startswith("published"))
    assert np.allclose(theirs.get_ydata(), published.load("fig8")["gap"])


def test_lines_are_distinguished_without_color() -> None:
    known = study()
    for chart in Gap(**SETTINGS).charts(known.frame, known.statistics):
        looks = [(line.dash, line.look.marker, line.filled) for line in chart.lines]
        assert len(looks) == len(set(looks)) >= 2


def test_a_study_without_published_numbers_draws_too() -> None:
    assert not any(label.startswith("published") for panel in (0, 1) for label in labels(drawn(reference=None), panel))


def test_one_seed_draws_without_bands_of_nan() -> None:
    assert drawn(seeds=[0]).get_supxlabel().endswith("digits, 1 seed, own scale")


@pytest.mark.parametrize("ending", ["pdf", "png"])
def test_the_figure_can_be_saved(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"figure.{ending}"
    drawn().savefig(path)
    assert path.stat().st_size > 10_000


def test_side_by_side_keeps_every_cell_of_both() -> None:
    both = side_by_side(question(widths=[2, 4]))
    # The runs have widths 2 and 4, the published table 4 to 256.
    assert both["model.width"].tolist() == [2, 4, 8, 16, 32, 64, 128, 256]
    assert both["n"].notna().tolist() == [True, True, *[False] * 6]
    four = both[both["model.width"] == 4].iloc[0]
    assert (four["published_gap"], four["published_best_rho"]) == (0.36, 0.005)


def test_sparse_cells_have_no_published_numbers_beside_them() -> None:
    both = side_by_side(question(widths=[1, 4], extra={"pruner.sparsity": [0, 0.5]}))
    sparse = both[both["pruner.sparsity"] == 0.5]
    assert sparse["model.width"].tolist() == [1, 4]
    assert not sparse["published_gap"].notna().any()
    # 2 dense nets of ours, one of them published, 6 others published, and 2 sparse nets.
    assert len(both) == 10


def test_whole_widths_do_not_round_published_ones() -> None:
    both = side_by_side(question("fig7", widths=[1, 4]))
    assert both["model.width"].tolist() == [0.25, 0.5, 1, 4, 10]


def test_the_accuracies_drawn_are_of_the_protocol_drawn() -> None:
    figure = drawn(protocol="loso")
    line = next(line for line in figure.axes[1].get_lines() if line.get_label() == "SAM")
    assert np.allclose(line.get_ydata(), pd.DataFrame(study().statistics["cells"])["loso_acc"])
    assert "ρ chosen on the other seeds" in labels(figure, 0)[0]


def test_parameter_counts_are_short() -> None:
    assert [style.compact(n) for n in (512, 44_622, 11_173_962, 178_585_866, 2e9)] == [
        "512",
        "44.6k",
        "11.2M",
        "179M",
        "2B",
    ]


@pytest.mark.parametrize(
    ("from_width", "text"),
    [
        (0, "all fit the training data"),
        (2, "fits the training data from 10k on"),
        (9, "none fits the training data"),
    ],
)
def test_the_legend_says_which_nets_interpolate(from_width: float, text: str) -> None:
    assert labels(drawn(train=lambda width, rho, seed: 1.0 if width >= from_width else 0.9), 1)[0] == (f"SGD ({text})")


def test_nets_that_interpolate_here_and_there_are_listed() -> None:
    assert labels(drawn(train=lambda width, rho, seed: 0.9 if width == 2 else 1.0), 1)[0] == (
        "SGD (fits the training data at 1k, 100k)"
    )


def test_several_series_have_a_name_each_and_separate_notes() -> None:
    figure = drawn(extra={"data.label_noise": [0, 0.5]})
    assert labels(figure, 0) == [
        "label_noise=0: best ρ on the test set, as published (± s.e.)",
        "hollow: ρ chosen on the other seeds (95 % interval)",
        "gray: published, CIFAR-10",
        "label_noise=0.5: best ρ on the test set, as published (± s.e.)",
    ]
    rows = [text.xyann[1] for text in figure.axes[0].texts]  # type: ignore[attr-defined]
    assert 0 < rows[0] < rows[1]  # one note for each series, since its best rho is the same at all sizes


def test_the_sparsity_axis_shows_parameters_before_and_after() -> None:
    known = question(None)
    known.gaps.cells.insert(0, "pruner.sparsity", [0, 0.9, 0.99])
    known.gaps.cells["params_live"] = 1000
    flat = studies.study(runs(), known, verdicts(known), "paper")
    axes = draw(flat, x="pruner.sparsity", series=[]).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0\n1k", "0.9\n10k", "0.99\n100k"]
    assert "1k live" in axes.get_xlabel()


def test_gaps_of_tens_are_drawn_on_an_axis_that_is_logarithmic_beyond_a_point() -> None:
    assert drawn().axes[0].get_yscale() == "linear"
    wide = table(lambda width, rho, seed: 0.6 + rho * width)
    known = gaps(wide)
    wide.records.append(make())
    axes = draw(studies.study(wide, Question(known, "params_total"), [], "paper")).axes[0]
    assert axes.get_yscale() == "symlog"
    assert axes.get_ylabel().endswith("logarithmic beyond 1)")


def test_published_sparsities_stand_beside_ours_of_the_same_place_alone() -> None:
    def with_published(widths: dict[float, float], equal_parameters: bool) -> dict[tuple[float, float], float]:
        theirs = published.load("fig10_mnist").drop(columns="pruner.name")
        full_table = table(
            lambda width, rho, seed: 0.9 + rho / 100, widths=[1, 4], extra={"pruner.sparsity": [0, 0.9583]}
        )
        if equal_parameters:
            full_table.runs["pruner.sparsity"] = full_table.runs["model.width"].map(widths)
        both = side_by_side(Question(gaps(full_table), "pruner.sparsity", None, theirs))
        return {
            (row["model.width"], round(row["pruner.sparsity"], 4)): row["published_gap"] for _, row in both.iterrows()
        }

    thin = with_published({1: 0.7723, 4: 0.9583}, equal_parameters=True)
    assert (thin[1, 0.7723], thin[4, 0.9583]) == (0.17, 0.277)
    grid = with_published({}, equal_parameters=False)
    assert grid[4, 0.9583] == 0.277
    assert np.isnan([grid[1, 0], grid[4, 0], grid[1, 0.9583]]).all()
    assert grid[1, 0.77] == 0.17


def test_series_of_several_parts_keep_the_names_of_all() -> None:
    axes = {"data.name": "mnist", "model.name": "mlp", "data.seed": 1, "pruner.seed": 0, "data.label_noise": 0.5}
    assert label(axes) == "mnist, mlp, data.seed=1, pruner.seed=0, label_noise=0.5: "
    assert label({}) == ""


def test_a_note_that_would_cover_another_is_hidden() -> None:
    figure = draw(study())
    axes = figure.axes[0]
    for x, y in ((1e3, 0.0), (1.01e3, 0.0), (1e5, 0.0)):
        axes.annotate("ρ=0.1", (x, y))
    picture.hide_overlapping(axes)
    assert [text.get_visible() for text in axes.texts[1:]] == [True, False, True]


def test_the_title_of_a_fall_has_the_p_value_of_a_fall() -> None:
    slope = {"slope": -0.75, "slope_low": -1.07, "slope_high": -0.43, "p_up": 0.99, "p_down": 0.018}
    assert heading.number({"answer": "not reproduced"} | slope) == "slope -0.75 [-1.07, -0.43], p = 0.018 of a fall"
    assert heading.number({"answer": "inconclusive"} | slope | {"p_down": 0.2}).endswith("p = 0.99")
    assert heading.number({"answer": "not reproduced", "p_up": 0.3, "p_down": None}) == "p = 0.3"
