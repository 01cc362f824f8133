"""What SIGTERM does to a sweep."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stopping(together: bool) -> Iterator[None]:
    """Make SIGTERM end the sweep as Ctrl-C does; else the workers of joblib would go on without it."""
    handler = signal.getsignal(signal.SIGTERM)
    if together and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
