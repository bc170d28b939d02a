"""Fuzzes one parser, guided by what of sockd's code each input reaches: `python -m tests.fuzz.one TARGET …`.

A target is one of targets.py, or MODULE:FUNCTION. What follows it are arguments of libFuzzer, which ends the
process itself.
"""

import shlex
import sys
from importlib import import_module
from typing import Any


def main() -> None:
    name, *arguments = sys.argv[1:]
    atheris: Any = import_module("atheris")  # not there for every Python and machine
    with atheris.instrument_imports(include=["sockd"]):
        module, _, function = name.rpartition(":")
        if module:
            target = getattr(import_module(module), function)
        else:
            target = import_module("tests.fuzz.targets").TARGETS[name]
    # The first argument is what libFuzzer gives to a shell where it starts itself anew, to merge.
    itself = shlex.join([sys.executable, "-m", "tests.fuzz.one", name])
    atheris.Setup([itself, *arguments], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
