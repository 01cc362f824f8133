"""Files and functions are small enough to be read at once."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILE, FUNCTION, ARGUMENTS = 250, 40, 8
# Their arguments are the keys of a file in conf/: data sets, and the logger.
CONFIGS = {"data/sets.py assemble", "tracking/session.py run"}


def too_large(path: Path) -> dict[str, str]:
    """Return what exceeds the limits in a file: names such as "models/mlp.py" or "models/mlp.py forward"."""
    name = str(path.relative_to(SOURCE)).removeprefix("samgap/")
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    found = {name: f"{lines} lines"} if lines > FILE else {}
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef):
            continue
        arguments = [one.arg for one in (*node.args.args, *node.args.kwonlyargs) if one.arg not in ("self", "cls")]
        length = (node.end_lineno or 0) - node.lineno + 1
        if length > FUNCTION:
            found[f"{name} {node.name}"] = f"{length} lines"
        elif len(arguments) > ARGUMENTS and f"{name} {node.name}" not in CONFIGS:
            found[f"{name} {node.name}"] = f"{len(arguments)} arguments"
    return found


def test_files_and_functions_are_small() -> None:
    found = {name: size for path in SOURCE.rglob("*.py") for name, size in too_large(path).items()}
    assert not found


def test_what_is_large_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    many = ", ".join(f"a{number}" for number in range(9))
    path = tmp_path / "samgap" / "one.py"
    path.parent.mkdir()
    path.write_text(f"def wide({many}): ...\n\n\ndef long():\n" + "    pass\n" * 40 + "\n" * 250)
    assert too_large(path) == {"one.py": "294 lines", "one.py wide": "9 arguments", "one.py long": "41 lines"}
