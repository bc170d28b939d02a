"""Methods of objects that others wrote, which may lack them, or raise when they are asked for one."""

from collections.abc import Callable
from typing import Any


# Any: what a third party's method takes and returns is between it and the contract.
def method_of(hosted: object, name: str) -> Callable[..., Any] | None:
    """The object's method of this name; None where it has none, or something that can't be called.

    A look-up runs code of the object's (`__getattr__`, properties), so what it raises is raised here: call
    this where the method's own exceptions are caught.
    """
    found = getattr(hosted, name, None)
    return found if callable(found) else None


def offers(hosted: object, name: str) -> bool:
    """Whether the object has a method of this name; not where asking for it raises."""
    try:
        return method_of(hosted, name) is not None
    except BaseException:  # noqa: BLE001
        return False
