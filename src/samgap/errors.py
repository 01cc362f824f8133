"""The one kind of error that a user is meant to read."""


class SettingError(ValueError):
    """Input that the user can put right.

    Its text is one sentence: what was wanted, what came, and which config key or file to change. The
    commands print it alone, without a traceback, and end with exit code 1.
    """
