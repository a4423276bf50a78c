"""The end of the process: within a second on Ctrl-C, and without a search of all objects."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator

from symfx.cli.output_files import drop_unfinished

__all__ = ["INTERRUPTED", "end_quickly", "leave_on_interrupt"]

#: The exit code of an interrupted command, as shells report it: 128 and the number of SIGINT.
INTERRUPTED = 130
#: The seconds that an interrupted command has to clean up.
_GRACE = 0.7


def leave_on_interrupt() -> None:
    """End this process soon after a SIGINT, if the exception KeyboardInterrupt does not end it.

    Python raises KeyboardInterrupt when the main thread runs Python code again. A kernel of torch,
    a compiler or z3 may keep it from that for long. The signal also writes a byte to a pipe, at
    once; a thread waits for the byte. A second SIGINT ends the process without delay.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may have signals reported
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # the surrounding program has a way of its own, or ignores the signal (nohup)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reading,), name="Ctrl-C of symfx", daemon=True).start()


def _wait(reading: int) -> None:
    while signal.SIGINT not in os.read(reading, 1):
        pass
    select.select([reading], [], [], _GRACE)
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # a progress bar hides the cursor
    drop_unfinished()
    os._exit(INTERRUPTED)


@contextlib.contextmanager
def end_quickly() -> Iterator[None]:
    """End the process without a search of its objects, once the command inside has ended.

    At its end the interpreter visits each of the million objects of torch, which takes as long as a
    trace. All functions that were registered with atexit inside run before.
    """
    code = 0

    def leave() -> None:
        if sys.gettrace() is not None or sys.getprofile() is not None:
            return  # a debugger or a profiler has work to do
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed, or its reader has left
                stream.flush()
        os._exit(code)

    atexit.register(leave)  # the first that is registered runs last
    try:
        yield
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        raise
    except BaseException:
        atexit.unregister(leave)
        raise
