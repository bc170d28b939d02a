"""`python -m sockd` is the sockd command, and so is the installed `sockd`."""

import os
import sys


def main() -> None:
    """Load the command and run it; Ctrl-C ends it without a word from its first moment on."""
    try:
        from sockd.cli.main import main as command  # noqa: PLC0415
    except KeyboardInterrupt:
        os._exit(130)
    except (ImportError, MemoryError, OSError) as error:  # too little memory, or a sandbox's refusal
        why = f"{type(error).__name__}: {error}"
        print(f"sockd: Python can't load what sockd needs: {why}", file=sys.stderr)  # noqa: T201
        sys.exit(os.EX_OSERR)
    command()


if __name__ == "__main__":
    main()
