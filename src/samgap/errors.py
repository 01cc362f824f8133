"""Errors that a user is meant to read."""

import json
import re
from typing import Any

# How torch, NumPy and Python say that there is too little memory, or that a size is beyond what any machine counts.
TOO_LARGE = re.compile(
    "(?i)allocate memory|out of memory|unable to allocate|alloc_failed|multiplication overflow|calculation overflow"
    "|overflow when unpacking|too large to convert|greater than maximum|infinity to integer"
)


class SettingError(ValueError):
    """Input that the user can put right.

    Its text is one sentence: what was wanted, what came, and which config key or file to change. The
    commands print it alone, without a traceback, and end with exit code 1.
    """


def said(value: Any) -> str:
    """A value as a sentence shows it, which is how it is typed in a config: 'text', 0.1, null, ["a", 0.1].

    Numbers of numpy and torch are shown as numbers; what no config holds, as Python shows it.
    """
    return repr(value) if isinstance(value, str) else json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def line(error: BaseException) -> str:
    """What an error says, in one line, or its name where it says nothing: for the brackets of a sentence."""
    return " ".join(str(error).split()) or type(error).__name__


def shortage(error: BaseException) -> str | None:
    """One sentence for an error by which torch, NumPy or Python say that the machine is too small, None for others."""
    text = str(error)
    if text.startswith("DataLoader "):
        what = text.removeprefix("DataLoader ").split(". ")[0].rstrip(". ")
        return (
            f"Reading images in processes of their own failed ({what}): lower trainer.workers where memory is short, "
            "or set it to 0, and the same command goes on where it was."
        )
    if isinstance(error, MemoryError) or TOO_LARGE.search(text):
        asked = re.search(r"allocate ([\d.]+ \w+)", text)
        return (
            f"This machine has too little memory for what was asked{f' ({asked[1]} at once)' if asked else ''}: lower "
            "what is large, such as model.width, data.size, data.train_size, batch_size, trainer.micro_batch or "
            "trainer.workers."
        )
    return None
