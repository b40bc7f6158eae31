"""The commands: one file a ``vpt-X``."""

import os
import signal
import sys


def _stop_at_once(number: int, frame: object) -> None:
    try:
        os.write(2, b"stopped\n")
    finally:
        os._exit(130)


# Until a command runs and after it has ended there is nothing to put away; a traceback out of the
# middle of an import says nothing. Whoever imports a command keeps the signals as they are.
if sys.argv[0].rpartition(os.sep)[2].startswith(("vpt-", "-m")):
    for _name in ("SIGINT", "SIGTERM"):
        if signal.getsignal(getattr(signal, _name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, _name), _stop_at_once)
