"""One cell's text becomes the format's own spelling: grades, genders, flags, dates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date

CENTURY_PIVOT = 50
"""Two-digit years from here on are of the last century: a pupil born in 98 and a term that starts in 26."""

GRADES = (
    "InfantToddler", "Preschool", "PreKindergarten", "TransitionalKindergarten", "Kindergarten",
    *(str(year) for year in range(1, 14)), "PostGraduate", "Ungraded", "Other",
)  # fmt: skip
"""Clever's grades: contract 1.6.1."""

_GRADE_ALIASES: Mapping[str, str] = {
    **{grade.lower(): grade for grade in GRADES},
    **{f"0{year}": str(year) for year in range(1, 10)},
    "0": "Kindergarten", "00": "Kindergarten", "k": "Kindergarten", "kg": "Kindergarten", "kn": "Kindergarten",
    "pk": "PreKindergarten", "prek": "PreKindergarten", "pre-k": "PreKindergarten", "pre-kindergarten": "PreKindergarten", "pkg": "PreKindergarten",
    "tk": "TransitionalKindergarten", "it": "InfantToddler", "ps": "Preschool", "pg": "PostGraduate", "ug": "Ungraded",
}  # fmt: skip

_GENDERS: Mapping[str, str] = {
    "m": "M", "male": "M", "f": "F", "female": "F", "x": "X", "nonbinary": "X", "non-binary": "X",
}  # fmt: skip

_FLAGS: Mapping[str, str] = {"y": "Y", "yes": "Y", "true": "Y", "t": "Y", "1": "Y", "n": "N", "no": "N", "false": "N", "f": "N", "0": "N"}

_ATTENDANCE: Mapping[str, str] = {"absent": "absent", "tardy": "tardy", "present": "present", "late": "tardy"}

_ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ].*)?")
_AMERICAN = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4}|\d{2})(?: .*)?")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})")


def grade(text: str) -> str | None:
    """Clever's grade, or None for a text that is none (contract 1.6.1: `01`, `KG`, `PK`, `0`, `Grade 1` are in real files)."""
    key = text.lower().removeprefix("grade").strip()
    return _GRADE_ALIASES.get(key)


def gender(text: str) -> str | None:
    """`M`, `F`, `X`, or None (contract 1.6.2: Clever's old demonstration set has words)."""
    return _GENDERS.get(text.lower())


def flag(text: str) -> str | None:
    """`Y`, `N`, or None."""
    return _FLAGS.get(text.lower())


def attendance(text: str) -> str | None:
    """`absent`, `tardy`, `present`, or None (contract 1.9)."""
    return _ATTENDANCE.get(text.lower())


def attendance_type(text: str) -> str | None:
    """`daily`, `section`, or None (contract 1.9)."""
    return text.lower() if text.lower() in ("daily", "section") else None


def iso_date(text: str) -> str | None:
    """The date as `YYYY-MM-DD`, or None. Read are `YYYY-MM-DD`, with or without a time, `M/D/YYYY`, `M/D/YY` and `YYYYMMDD` (contract 1.6.6)."""
    if match := _ISO.fullmatch(text) or _COMPACT.fullmatch(text):
        year, month, day = (int(part) for part in match.groups())
    elif match := _AMERICAN.fullmatch(text):
        month, day, year = (int(part) for part in match.groups())
        if year < 100:
            year += 1900 if year >= CENTURY_PIVOT else 2000
    else:
        return None
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None


def has_short_year(text: str) -> bool:
    """Whether the date's century had to be guessed."""
    match = _AMERICAN.fullmatch(text)
    return match is not None and len(match.group(3)) == 2


CANONICAL: Mapping[str, Callable[[str], str | None]] = {
    "grade": grade,
    "gender": gender,
    "flag": flag,
    "date": iso_date,
    "attendance": attendance,
    "attendance_type": attendance_type,
}
"""Type of a contract's field → what its text means; None where it means nothing."""

UNKNOWN: Mapping[str, str] = {"grade": "Other"}
"""What a text that means nothing is read as; blank for all other types."""

PATTERNS: Mapping[str, str] = {"email": r"[^@\s,;]+@[^@\s,;]+\.[^@\s,;]+", "phone": r"1?[0-9]{10}"}
"""Type of a contract's field → how its values look; others are kept as sent, with a warning (contract 1.4.2: phones are ten or eleven digits)."""
