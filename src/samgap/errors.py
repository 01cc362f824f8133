"""The one kind of error that a user is meant to read."""

import json
from typing import Any


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
