"""One cell's text becomes a date, in whichever form a student information system or a spreadsheet wrote it (contract 1.6.6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

MONTHS = {name: number for number, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1)}
"""The first three letters of a month's name → its number."""

MONTH = r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
"""A month's name in lower case, whole or cut."""

_NAMED = rf"(?P<month>{MONTH})\.?"
_TIME = r"(?:(?:t|\s+)[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?\s*(?:[ap]\.?m\.?)?\s*(?:z|utc|gmt|[+-][0-9]{2}:?(?:[0-9]{2})?)?)?"
_YEAR = r"(?P<y>[0-9]{4}|[0-9]{2})"
_FORMS = tuple(
    re.compile(form + _TIME)
    for form in (
        r"(?P<y>[0-9]{4})(?P<sign>[-/.])(?P<m>[0-9]{1,2})(?P=sign)(?P<d>[0-9]{1,2})",
        r"(?P<y>[0-9]{4})(?P<m>[0-9]{2})(?P<d>[0-9]{2})",
        # month first, always: where 13/1/2014 stands, the whole column may have the day first, so it is not understood rather than half of it wrongly
        rf"(?P<m>[0-9]{{1,2}})(?P<sign>[-/])(?P<d>[0-9]{{1,2}})(?P=sign){_YEAR}",
        rf"(?P<d>[0-9]{{1,2}})[\s/-]*{_NAMED}[\s,/-]*{_YEAR}",
        rf"{_NAMED}[\s/-]*(?P<d>[0-9]{{1,2}})(?:st|nd|rd|th)?[\s,/-]+{_YEAR}",
    )
)
_DOTTED = re.compile(rf"([0-9]{{1,2}})\.([0-9]{{1,2}})\.([0-9]{{4}}){_TIME}")
_SERIAL = re.compile(r"([1-7][0-9]{4})(?:\.[0-9]+)?")
_FIRST_SERIAL = date(1899, 12, 30)


@dataclass(frozen=True)
class Found:
    """A date; `guessed` where its century was, or where a spreadsheet had left a number of days in its place."""

    day: date
    guessed: bool


def read(text: str, century: Callable[[date], date]) -> Found | None:
    """The date, or None for a text that is none. `century` moves the date of a two-digit year, given as of 2000 to 2099, to the century that was meant."""
    key = text.strip().lower()
    if match := _SERIAL.fullmatch(key):
        return Found(_FIRST_SERIAL + timedelta(days=int(match.group(1))), guessed=True)
    if match := _DOTTED.fullmatch(key):
        return _dotted(*(int(part) for part in match.groups()))
    match = next((found for form in _FORMS if (found := form.fullmatch(key))), None)
    if match is None:
        return None
    parts = match.groupdict()
    month = int(parts["m"]) if parts.get("m") else MONTHS[parts["month"][:3]]
    short = len(parts["y"]) == 2
    try:
        # 2000 stands for the year 00: like it, it has a 29th of February
        day = date(int(parts["y"]) + 2000 if short else int(parts["y"]), month, int(parts["d"]))
        return Found(century(day) if short else day, short)
    except ValueError:
        return None


def nearest(found: date, today: date) -> date:
    """The date of two-digit year in the century that puts it nearest to today: a term that starts in 26, or ended in 98."""
    return found.replace(year=today.year - 50 + (found.year - today.year + 50) % 100)


def past(found: date, today: date) -> date:
    """The date of two-digit year in the last hundred years: nobody is born tomorrow."""
    latest = found.replace(year=today.year - (today.year - found.year) % 100)
    return latest if latest <= today else latest.replace(year=latest.year - 100)


def _dotted(one: int, two: int, year: int) -> Found | None:
    """With dots some write the day first, some the month; where both could be, neither is believed."""
    if one <= 12 and two <= 12 and one != two:
        return None
    try:
        return Found(date(year, min(one, two), max(one, two)), guessed=False)
    except ValueError:
        return None
