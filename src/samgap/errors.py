"""Errors that are reported to the user in one sentence."""

import json
import re
from typing import Any

# Messages of torch, NumPy and Python for too little memory, or for a size that is too large for any machine.
TOO_LARGE = re.compile(
    "(?i)allocate memory|out of memory|unable to allocate|alloc_failed|multiplication overflow|calculation overflow"
    "|overflow when unpacking|too large to convert|greater than maximum|infinity to integer"
)
NO_FLOAT = re.compile("cannot be converted to type float without overflow|Numerical result out of range")


class SettingError(ValueError):
    """An error in the input that the user can fix.

    Its text is one sentence: the valid values, the value given, and the config key or file to change. The
    commands print this sentence without a traceback and end with exit code 1.
    """


def said(value: Any) -> str:
    """Return a value as text for a sentence, as it is written in a config: 'text', 0.1, null, ["a", 0.1].

    NumPy and torch numbers become plain numbers. A value that no config can hold becomes its Python repr.
    """
    return repr(value) if isinstance(value, str) else json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def line(error: BaseException) -> str:
    """Return an error's message in one line, or its class name if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def shortage(error: BaseException) -> str | None:
    """Return a sentence for an error of torch, NumPy or Python about something too large, None for other errors."""
    text = str(error)
    if text.startswith("DataLoader "):
        cause = text.removeprefix("DataLoader ").split(". ")[0].rstrip(". ")
        return (
            f"Reading images in processes of their own failed ({cause}): lower trainer.workers where memory is short, "
            "or set it to 0, and the same command goes on where it was."
        )
    if isinstance(error, MemoryError) or TOO_LARGE.search(text):
        request = re.search(r"allocate ([\d.]+ \w+)", text)
        return (
            f"This machine has too little memory{f' ({request[1]} at once)' if request else ''}: lower "
            "what is large, such as model.width, data.size, data.train_size, batch_size, trainer.micro_batch or "
            "trainer.workers."
        )
    if NO_FLOAT.search(text):
        return f"A number of the config is too large for float32 ({line(error)}): lower it, or set precision=64-true."
    return None
