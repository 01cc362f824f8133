"""`python -m samgap.reference.settings`: print docs/settings.md, every key of conf/.

The meaning of a key is a comment beside the key in its YAML: `key: value  # [unit] meaning`. So new keys appear on the
page without another list. tests/test_settings.py compares the committed page with the output of this module.
"""

import re
from collections import ChainMap, Counter
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from samgap import cli, naming
from samgap.runs.identity import flat
from samgap.training.settings import GROUPS, resolve

CONF = Path(cli.CONF)
DOTTED = ("probe", "callbacks")  # groups of which several files can be chosen: probe.hessian.tol
OTHERS = ("trainer", "logger", *DOTTED, "draw", "hydra/launcher")
HEAD = "| key | default | identity | unit | meaning |\n|---|---|---|---|---|\n"
INTRO = """\
# Every setting

`python -m samgap.reference.settings` makes this page from [conf/](../conf/train.yaml), and a test compares the two.
A group such as `data` is a choice of a file: `data=mnist`. A key is a value: `data.size=14`. A `+` adds a key that is
not listed here, such as `+trainer.limit_train_batches=2` of Lightning ([how](extending.md#what-lightning-offers)).

- **default**: the value in the files of the group. Where files differ, their names follow in brackets.
- **identity**: whether the key is part of the run's identity, a hash of the settings that determine a result. Two runs
  with one identity are one run: one folder, trained once. `+trainer.limit_train_batches` is part of it too. An SGD run
  (`ascent.rho=0`) leaves out the group `ascent`, and a dense net (`pruner.sparsity=0`) the group `pruner`.
- **unit**: read it together with the meaning, as in "images of one step".
"""
Keys = dict[str, tuple[str, str]]  # dotted key -> its value as the YAML writes it, and the comment beside it


def keys(path: str) -> Keys:
    """Return the keys of a file below conf/, including those of files in its folder that it extends."""
    text, entries = (CONF / f"{path}.yaml").read_text(encoding="utf-8"), Keys()
    for entry in (yaml.safe_load(text) or {}).get("defaults", []):
        if "/" in path and isinstance(entry, str) and (CONF / path).with_name(f"{entry}.yaml").exists():
            entries |= keys(f"{path.rpartition('/')[0]}/{entry}")
    lines = text.split("\n")

    def read(node: Any, prefix: str) -> None:
        for name, value in node.value:
            key, end = prefix + name.value, value.end_mark
            if isinstance(value, yaml.MappingNode) and value.value:
                read(value, f"{key}.")
            elif not key.startswith(("defaults", "hydra.")):
                more = takewhile(lambda line: re.match(r"  +#", line), lines[end.line + 1 :])
                comment = " ".join(part.strip(" #") for part in (lines[end.line][end.column :], *more))
                entries[key] = text[value.start_mark.index : end.index], comment or entries.get(key, ("", ""))[1]

    if (root := yaml.compose(text)) is not None:
        read(root, "")
    return entries


def choices(group: str) -> list[str]:
    """Return the names of the files of a group that a user can choose."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "base")


def values(path: str) -> dict[str, Any]:
    """Return the values of a file, as `keys` finds them."""
    return {key: yaml.safe_load(value) for key, (value, _) in keys(path).items()}


def scientific() -> set[str]:
    """Return the keys on which the identity of a run can depend."""
    defaults = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))["defaults"]
    usual = {part: name for entry in defaults if isinstance(entry, dict) for part, name in entry.items()}
    names: set[str] = set()
    for group, choice in ((part, name) for part in GROUPS for name in choices(part)):
        files = {part: f"{part}/{usual[part]}" for part in (*GROUPS, "trainer")} | {group: f"{group}/{choice}"}
        composed = OmegaConf.create({part: values(path) for part, path in files.items()} | values("train"))
        names |= flat(resolve(OmegaConf.to_container(composed, resolve=True))).keys()  # type: ignore[arg-type]
    return names


def page() -> str:
    """Return the text of docs/settings.md."""
    names = scientific()
    parts = [INTRO, "## A run\n", _table({"": keys("train")}, names)]
    for group in (*GROUPS, *OTHERS):
        files = {f"[{file}]" if group in DOTTED else file: f"{group}/{file}" for file in choices(group)}
        file_rows = "".join(f"| `{group}={file}` | {_about(path)} |\n" for file, path in files.items())
        parts += [f"## `{group}`\n", "| file | what |\n|---|---|\n" + file_rows]
        by_file = {file: _prefixed(path, path if group in DOTTED else group) for file, path in files.items()}
        by_file = {"": dict(ChainMap(*by_file.values()))} if group in DOTTED else by_file
        parts += [_table(by_file, names)] if any(by_file.values()) else []
    for name in ("draw", "probe", "dashboard"):
        parts += [f"## Only of `samgap.{name}`\n", _table({"": keys(name)}, names)]
    return "\n".join(parts)


def _prefixed(path: str, prefix: str) -> Keys:
    own = {key: entry for key, entry in keys(path).items() if not key.startswith("_") and key not in ("name", "code")}
    return {f"{prefix.replace('/', '.')}.{key}": entry for key, entry in own.items()}


def _table(by_file: dict[str, Keys], names: set[str]) -> str:
    text = HEAD
    for key in dict.fromkeys(key for keys_ in by_file.values() for key in keys_):
        entries = {file: keys_[key] for file, keys_ in by_file.items() if key in keys_}
        files = {value: [file for file, entry in entries.items() if entry[0] == value] for value, _ in entries.values()}
        usual = max(files, key=lambda value: len(files[value])) if len(entries) == len(by_file) else None
        default = "; ".join(
            f"`{value}`" + ("" if value == usual else f" ({', '.join(files[value])})")
            for value in sorted(files, key=lambda value: value != usual)
        )
        comments = Counter(comment for _, comment in entries.values() if comment)
        unit, meaning = re.findall(r"^(?:\[(\w+)\] )?(.*)", max(comments, key=comments.__getitem__, default=""))[0]
        part = f"as `{naming.RENAMED[key]}`" if key in naming.RENAMED else "yes" if key in names else "no"
        part = "as the number of images that it sees" if f"{key}_size" in names else part  # batch norm
        text += f"| `{key}` | {default} | {part} | {unit} | {_escaped(meaning)} |\n"
    return text


def _about(path: str) -> str:
    head = takewhile(lambda line: line.startswith("#"), (CONF / f"{path}.yaml").read_text(encoding="utf-8").split("\n"))
    return _escaped(" ".join(line.lstrip("# ") for line in head if "@package" not in line))


def _escaped(text: str) -> str:
    return re.sub(r"([|<])", r"\\\1", text)


if __name__ == "__main__":
    print(page(), end="")
