"""`python -m samgap.draw figure=fig8/smoke`: records to table, figure and verdict, without data, GPU or W&B."""

from pathlib import Path
from typing import Any

import hydra
import pandas as pd
from matplotlib import pyplot as plt
from omegaconf import DictConfig

from samgap import cli, files, naming
from samgap.plots.style import short, style
from samgap.results import study as studies
from samgap.results import table
from samgap.results.study import Study
from samgap.training.settings import locate

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="draw")
def main(config: DictConfig) -> None:
    """Draw the sweep that `figure=` or `name=` names, from its records alone."""
    with cli.sentences():
        draw(config)


def draw(config: DictConfig) -> None:
    """Write figure, table and statistics into the sweep's folder and print table and verdict."""
    values = naming.plain(config, "root", "name", "scale", "draw", "protocol")
    root, settings = Path(values["root"]), values["draw"]
    study = studies.evaluate(root, values["name"], values["scale"], settings, values["protocol"])
    folder = study.sweep.folder(root)
    with style():
        figure = locate(settings["_target_"])(study, settings)
        for ending in ("pdf", "png"):
            files.replace(folder / f"{study.sweep.name}.{ending}", lambda path: figure.savefig(path))
            figure.set_layout_engine("none")  # it is laid out now
        plt.close(figure)
    studies.write(study, folder)
    print(report(study))
    print(f"\n{folder / study.sweep.name}.{{pdf,png,csv,json}}")


def report(study: Study) -> str:
    """Table and verdict as text."""
    lines = [
        f"{study.sweep.name}/{study.sweep.scale}, {study.data}: SAM minus SGD in percentage points",
        "",
        _table(study),
        "",
    ]
    lines += [
        f"gap: rho* by protocol={study.protocol}; unbiased: rho* by {study.gaps.unbiased}, 95 % interval from .. to; "
        f"fixed: rho = {study.gaps.fixed_rho:g} everywhere; train: SGD's final training accuracy.",
    ]
    lines += [f"Note: {note}." for note in study.gaps.notes]
    if study.table.missing:
        states = pd.Series(list(study.table.missing.values())).value_counts()
        lines.append(f"Not in the table: {', '.join(f'{count} {state}' for state, count in states.items())} run(s).")
    return "\n".join([*lines, *(study.says(verdict) for verdict in study.verdicts)])


def _table(study: Study) -> str:
    main, unbiased = study.protocol, study.gaps.unbiased
    rows = []
    for _, cell in studies.side_by_side(study).iterrows():
        row = {table.short(axis): _text(cell, axis, "g") for axis in study.gaps.axes}
        ours = pd.notna(cell.get("n"))
        row |= {
            "parameters": short(cell["params_live" if ours else "published_params"]),
            "n": _text(cell, "n", ".0f"),
            "SGD %": _text(cell, "sgd_acc", ".2f"),
            "SAM %": _text(cell, f"{main}_acc", ".2f"),
            "gap": _text(cell, f"{main}_gap", "+.2f"),
            "s.e.": _text(cell, f"{main}_se", ".2f"),
            "rho*": _text(cell, f"{main}_rho", "g"),
            "unbiased": _text(cell, f"{unbiased}_gap", "+.2f"),
            "from": _text(cell, f"{unbiased}_low", "+.2f"),
            "to": _text(cell, f"{unbiased}_high", "+.2f"),
            "fixed": _text(cell, "fixed_gap", "+.2f"),
            "train %": _text(cell, "sgd_train_acc", ".1f"),
            "interpolates": ("yes" if cell["interpolates"] else "no") if ours else "",
        }
        if study.published is not None:
            row |= {
                "published": _text(cell, "published_gap", "+.2f"),
                "at": short(cell["published_params"]) if pd.notna(cell.get("published_params")) else "",
            }
        rows.append(row)
    return pd.DataFrame(rows).to_string(index=False)


def _text(cell: pd.Series, key: str, spec: str) -> str:
    value: Any = cell.get(key)
    if isinstance(value, str):
        return value
    return format(value, spec) if pd.notna(value) else ""


if __name__ == "__main__":
    cli.command(main)
