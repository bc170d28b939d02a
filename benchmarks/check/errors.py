"""Why there is no count."""


class NotCountableError(Exception):
    """The machine lacks what is needed to count; the text says what."""


class MisbehavedError(Exception):
    """The daemon, or what counts it, did something else than it should; the text says what."""
