from samgap.figures import latex

REPORT = {
    "name": "fig7", "scale": "cpu", "data": "mnist", "provenance": {"commits": {"abc": 3}},
    "verdicts": [{"series": "", "answer": "inconclusive"}],
    "table": {"columns": ["width", "SGD %"], "rows": [["0.25", "98.2"], ["1", "98.5"]]},
}  # fmt: skip


def test_numbers_and_verdicts_are_macros_and_cells_a_table() -> None:
    text = latex.text(REPORT, {"gap/model.width=0.25": 0.0731, "rho*/model.width=1": None})
    assert text.splitlines() == [
        r"% fig7/cpu, mnist; runs of commit abc. Drawn by samgap; needs \usepackage{booktabs}.",
        r"\newcommand{\FigSevenCpuGapModelWidthZeroPointTwoFive}{0.0731}",
        r"\newcommand{\FigSevenCpuRhoStarModelWidthOne}{--}",
        r"\newcommand{\FigSevenCpuVerdict}{inconclusive}",
        r"\begin{tabular}{rr}",
        r"\toprule",
        r"width & SGD \% \\",
        r"\midrule",
        r"0.25 & 98.2 \\",
        r"1 & 98.5 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_each_claim_of_a_series_has_its_own_macro() -> None:
    claims = [{"series": "SGD", "claim": claim, "answer": "void"} for claim in ("the rate grows", "it is linear")]
    lines = latex.text(REPORT | {"verdicts": claims}, {}).splitlines()
    assert lines[1:3] == [
        r"\newcommand{\FigSevenCpuVerdictSGDTheRateGrows}{void}",
        r"\newcommand{\FigSevenCpuVerdictSGDItIsLinear}{void}",
    ]  # fmt: skip


def test_names_of_macros_are_letters_and_distinguish_numbers() -> None:
    names = {latex.macro("gap", f"{value:g}") for value in (0.5, 5, -5, 0.05, 10, 1)}
    assert len(names) == 6
    assert all(name.isalpha() for name in names)
