"""Regular expressions that match the decimal numbers of a range, for the schema that editors check by.

A range is a union of blocks, each a fixed head followed by free digits. 30 to 3276 is the union of
`[3-9][0-9]`, `[1-9][0-9]{2}`, `[1-2][0-9]{3}`, `3[0-1][0-9]{2}`, `32[0-6][0-9]` and `327[0-6]`.
"""


def pattern_up_to(low: int, high: int) -> str:
    """A pattern that matches the numbers from `low` to `high`, without leading zeros, and nothing else."""
    choices = []
    if low == 0:
        choices.append("0")
        low = 1
    if low == 1 and high >= 10:
        full = len(str(high + 1)) - 1  # all numbers of this many digits are in the range
        choices.append("[1-9]" if full == 1 else f"[1-9][0-9]{{0,{full - 1}}}")
        low = 10**full
    while low <= high:
        # The widest block of numbers that is a fixed head followed by free digits,
        free = 0
        while low % 10 ** (free + 1) == 0 and low + 10 ** (free + 1) - 1 <= high:
            free += 1
        block = 10**free
        # repeated for as many values of the head's last digit as the range has.
        head, first = divmod(low // block, 10)
        last = first
        while last < 9 and low + (last - first + 2) * block - 1 <= high:
            last += 1
        digits = str(first) if first == last else f"[{first}-{last}]"
        choices.append(f"{head or ''}{digits}{_free_digits(free)}")
        low += (last - first + 1) * block
    return choices[0] if len(choices) == 1 else f"(?:{'|'.join(choices)})"


def _free_digits(count: int) -> str:
    return "" if not count else "[0-9]" if count == 1 else f"[0-9]{{{count}}}"
