"""Numbers and names as sentences have them, and texts of a district made safe to show."""

from __future__ import annotations

from collections.abc import Iterable


def number(count: int, noun: str) -> str:
    """So many of them: "1 row", "1,204 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def counted(count: int, entity: str) -> str:
    """So many records of an entity: "1 section teacher", "340 enrollments"."""
    words = entity.replace("_", " ")
    return f"{count:,} {words.removesuffix('s') if count == 1 else words}"


def be(count: int, *, done: bool) -> str:
    """The verb for so many, of what was done or would be."""
    return "would be" if not done else "was" if count == 1 else "were"


def first(clauses: Iterable[str], most: int, between: str = "; ") -> str:
    """The first `most` clauses, and how many there are beyond them."""
    every = list(clauses)
    return between.join(every[:most]) + (f"{between}and {len(every) - most:,} more" if len(every) > most else "")


def shown(text: str, longest: int = 60) -> str:
    """The text without characters that could steer a terminal or turn the reading direction, cut at `longest` characters."""
    safe = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return safe if len(safe) <= longest else f"{safe[: longest - 1]}…"
