"""Runs a module with slices that end by work, not by time: `python steady.py -m MODULE ARGUMENT…`.

sockd ends a slice when `perf_counter` says so, which it reads after each event. Under strace or valgrind,
and on a slower machine, fewer events fit into a slice: there are more slices, and so more system calls and
instructions. Here the clock advances by one step whenever it is read, so that a slice has the same events
everywhere. It is made of C functions, as its instructions are counted too.
"""

import itertools
import runpy
import sys
import time

# Seconds, about what an echo takes: a slice of half a millisecond has 25 events.
STEP = 20e-6

if __name__ == "__main__":
    sys.argv = sys.argv[2:]
    time.perf_counter = itertools.count(0.0, STEP).__next__
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
