"""Numbers for people: bytes, seconds."""


def bytes_text(count: float) -> str:
    """Return a number of bytes with a decimal unit and three digits, as `1.23 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:  # what rounds to 1000 is one of the next unit
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB" if abs(count) < 999.5 else f"{count:.0f} TB"


def seconds_text(seconds: float) -> str:
    """Return a duration as `42 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def age_text(seconds: float) -> str:
    """Return how long ago something was: as `seconds_text` below a day, else in days."""
    days = int(seconds // 86400)
    return f"{days} day{'' if days == 1 else 's'}" if days else seconds_text(seconds)
