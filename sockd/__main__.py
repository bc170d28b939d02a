"""`python -m sockd` is the sockd command, and so is the installed `sockd`."""

import os


def main() -> None:
    """Load the command and run it; Ctrl-C ends it without a word from its first moment on."""
    try:
        from sockd.cli.main import main as command  # noqa: PLC0415
    except KeyboardInterrupt:
        os._exit(130)
    command()


if __name__ == "__main__":
    main()
