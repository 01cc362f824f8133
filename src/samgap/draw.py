"""`python -m samgap.draw figure=fig8/smoke`: makes table, figure and verdict from records, without data or GPU."""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from samgap import cli, files, naming
from samgap.errors import SettingError, said
from samgap.figures import archive, kind, latex, output
from samgap.figures.archive import REFERENCE
from samgap.figures.table import read_frame
from samgap.rules import FLAG, check
from samgap.runs import measurements, sweeps
from samgap.style import style
from samgap.targets import locate, options
from samgap.tracking import restore, session

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="draw")
def main(config: DictConfig) -> None:
    """Draw the sweep that `figure=` or `name=` names, from its records alone: this disk's, W&B's, or samgap's own."""
    with cli.sentences():
        keys = ("root", "name", "scale", "draw", "about", "protocol", "logger", "source", "style", "latex")
        values = naming.plain(config, *keys)
        shipped = REFERENCE / config.name / str(config.scale)
        if config.source == "reference" and shipped.exists() and not (shipped / archive.FOLDER).exists():
            typed = {override.lstrip("+~").partition("=")[0] for override in HydraConfig.get().overrides.task}
            if others := typed - {"figure", "name", "scale", "source", "root", "style"}:
                raise SettingError(
                    f"{config.name}/{config.scale} came with samgap without its runs, so only root and style can be "
                    f"set: leave out {', '.join(sorted(others))}."
                )
            judge_again(shipped, values)
        else:
            draw(values)
        if config.scale == "smoke":
            print(f"\n{what_next(config.name)}")


def what_next(name: str) -> str:
    """Return advice after a figure at smoke scale: samgap's own result on real data, and the command to reproduce it.

    Args:
        name: name of the figure. If it has no scale cpu, the text only says that the numbers mean nothing.
    """
    text = "The pipeline works here. The numbers above mean nothing: nets and data of smoke scale are toys."
    if not (Path(cli.CONF) / "figure" / name / "cpu.yaml").exists():
        return text
    cmd = f"make reproduce-{name} SCALE=cpu"
    path = REFERENCE / name / "cpu" / f"{name}.json"
    if not path.exists():
        return f"{text}\nOn real data: {cmd}."
    shipped = json.loads(path.read_text(encoding="utf-8"))
    answers = Counter(verdict["answer"] for verdict in shipped["verdicts"])
    total = answers.total()
    result = ", ".join(f"{count} of {total} {answer}" if total > 1 else answer for answer, count in answers.items())
    minutes = shipped["provenance"]["core_seconds"] / 60
    probes_note = ", probes not counted" if measurements.FOLDER in kind.from_settings(shipped["draw"]).files else ""
    return (
        f"{text}\nOn real data, {shipped['data']}, as it came with samgap: {result} "
        f"({os.path.relpath(path.with_suffix('.png'))}). Your own: {cmd}, about {minutes / 2:.0f} minutes on two cores "
        f"({minutes:.0f} core-minutes{probes_note})."
    )


def draw(config: dict[str, Any]) -> None:
    """Write figure, table and statistics to the sweep's folder, print table and verdict, and send all to the logger.

    Args:
        config: the keys that `main` passes, as plain values.
    """
    check(config, {"latex": FLAG})
    logger, figure = config["logger"], kind.from_settings(config["draw"])
    root = store(config)
    target = logger.get("_gaps_") if config["source"] == "records" else None  # sends only results of this disk
    study = figure.evaluate(root, config["name"], config["scale"], config["protocol"])
    sweep = study.table.sweep
    folder = sweep.folder(root)
    report = output.report(study) | {key: config.get(key, {}) for key in ("draw", "about")}
    picture(figure, study.frame, report, folder, config["style"])
    output.write(study.frame, report, folder)
    if config["latex"]:
        files.replace_text(folder / f"{sweep.name}.tex", latex.text(report, study.headline))
    archive.write(study.table, root, folder, figure.files)
    print(output.as_text(study))
    if left_open := config.get("about", {}).get("left_open"):
        print(f"\nThe paper leaves open: {left_open}")
    print(f"\n{folder / sweep.name}.{{pdf,png,csv,json{',tex' * config['latex']}}}")
    if target:
        locate(target)(sweep, root, study, figure.charts(study.frame, report), **options(logger))


def picture(figure: kind.Kind, frame: pd.DataFrame, report: Mapping[str, Any], folder: Path, name: str) -> None:
    """Write <name>.pdf and <name>.png of a study.

    Args:
        figure: the kind of the figure.
        frame, report: see `kind.Kind.draw`.
        folder: folder of the pictures.
        name: name of the style, see `style.style`.
    """
    from samgap.figures.picture import save  # only after `cli` has set the backend

    with style(name):
        save(figure.draw(frame, report, titled=name != "paper"), folder / report["name"])


def judge_again(shipped: Path, config: Mapping[str, Any]) -> None:
    """Draw a result that came with samgap without its runs, and judge it by the current rules if its numbers suffice.

    Args:
        shipped: folder of the result; the output goes to root/reference/.
        config: as for `draw`.
    """
    name, scale = shipped.parent.name, shipped.name
    report = json.loads((shipped / f"{name}.json").read_text(encoding="utf-8"))
    frame = read_frame(shipped / f"{name}.csv")
    figure = kind.from_settings(report["draw"])
    try:
        report = output.judged_again(report, figure.judge_again(report, frame))
        explanation = "what it has of them is judged by today's rules"
    except SettingError as error:
        explanation = str(error)
    folder = Path(config["root"]) / "reference" / name / scale
    folder.mkdir(parents=True, exist_ok=True)
    picture(figure, frame, report, folder, config["style"])
    output.write(frame, report, folder)
    print(f"{name}/{scale} was kept without its runs; {explanation}:\n")
    print("\n".join(verdict["text"] for verdict in report["verdicts"]))
    print(f"\n{folder / name}.{{pdf,png,csv,json}}")


def store(config: Mapping[str, Any]) -> Path:
    """Return the root folder of the runs of config["source"]; runs of W&B or of samgap get a folder below `root`.

    Raises:
        SettingError: the source is unknown, or does not have the sweep.
    """
    root, name, scale, logger = Path(config["root"]), config["name"], config["scale"], config["logger"]
    source: str = config["source"]
    if source == "records":
        return root
    if source == "reference":
        sweep, _ = archive.restore(REFERENCE / name / scale, root / source)
        sweeps.write(sweep, root / source)  # an older version of samgap may have left another grid there
        return root / source
    if source == "wandb":
        if "project" not in logger:
            raise SettingError(
                "source=wandb reads where logger=wandb, logger.entity and logger.project say: add logger=wandb, "
                f"got logger={logger['name']}."
            )
        without = "draw from the records on this disk with source=records"
        with session.account(root, restore.TIMEOUT, "source=wandb", without) as api:
            account = logger["project"], logger["entity"]
            restored = restore.restore(api, root, name, scale, *account, kind.from_settings(config["draw"]).files)
        print(f"{name}/{scale}: {restored.text()}\n", file=sys.stderr)
        return restored.root
    raise SettingError(f"source must be records, reference or wandb, got {said(source)}.")


if __name__ == "__main__":
    cli.command(main)
