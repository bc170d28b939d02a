"""How far a soak is: a line a second, on a terminal always the same one."""

import sys
import threading
import time
from collections.abc import Callable

WIDTH = 34  # of what is being done


class Progress(threading.Thread):
    """Shows what `numbers()` gives, with the time and what is being done."""

    def __init__(self, seconds: float, numbers: Callable[[], str]) -> None:
        super().__init__(name="progress", daemon=True)
        self.doing = ""
        self._over = threading.Event()
        self._seconds, self._numbers = seconds, numbers
        self._began = time.monotonic()
        self._in_place = sys.stdout.isatty()

    def run(self) -> None:
        while not self._over.wait(1.0):
            passed = time.monotonic() - self._began
            self.show(
                f"{passed:4.0f} of {self._seconds:.0f} s  {self.doing:{WIDTH}.{WIDTH}}  {self._numbers()}"
            )

    def show(self, text: str) -> None:
        sys.stdout.write(f"\r{text}\x1b[K" if self._in_place else f"{text}\n")
        sys.stdout.flush()

    def end(self) -> None:
        self._over.set()
        self.join()
        if self._in_place:
            sys.stdout.write("\n")
