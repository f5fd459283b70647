"""One cell's text becomes the format's own spelling: grades, races, languages, contacts, phones and all else that has a fixed set of values.

A reader takes a text that is not blank and never raises. What is the format's own, in upper or lower case, and the codes that Clever documents for a
column are read in silence; every other spelling is read with a warning, so that a person sees what became of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.roster import dates
from sftp_ingest.roster.languages import ALIASES, LANGUAGES

CONVERTED, UNKNOWN, EXCEL, UNREADABLE = "value_converted", "value_unknown", "value_excel_date", "date_unreadable"

NOT_UNDERSTOOD = (UNKNOWN, UNREADABLE)
"""Codes of texts that no reader could make anything of."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a text is read as, and the code of the finding that this deserves; without a code it is the format's own value."""

    value: str
    code: str = ""


Reader = Callable[[str], Meaning]


def _own(*values: str, **codes: str) -> dict[str, str]:
    """The format's values by how they compare, with the codes that it documents for them."""
    return {value.lower(): value for value in values} | {code.lower(): value for code, value in codes.items()}


def _plain(text: str) -> str:
    """Lower case, every run of other signs than letters and digits one space."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _looked_up(text: str, own: Mapping[str, str], others: Mapping[str, str], otherwise: str = "") -> Meaning:
    if value := own.get(text.lower()):
        return Meaning(value)
    if value := others.get(_plain(text)):
        return Meaning(value, CONVERTED)
    return Meaning(otherwise, UNKNOWN)


# ---------------------------------------------------------------- grades

GRADES = (
    "InfantToddler", "Preschool", "PreKindergarten", "TransitionalKindergarten", "Kindergarten",
    *(str(year) for year in range(1, 14)), "PostGraduate", "Ungraded", "Other",
)  # fmt: skip
"""Clever's grades: contract 1.6.1. Those up to 13 have an order, so that they can bound a range."""

_HIGHEST = GRADES.index("13")
_OWN_GRADES = _own(*GRADES)
_NUMBER_WORDS = (
    ("first", "one"), ("second", "two"), ("third", "three"), ("fourth", "four"), ("fifth", "five"), ("sixth", "six"),
    ("seventh", "seven"), ("eighth", "eight"), ("ninth", "nine"), ("tenth", "ten"), ("eleventh", "eleven"), ("twelfth", "twelve"),
)  # fmt: skip
_GRADE_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("it", "infant", "toddler", "infant/toddler"), "InfantToddler"),
    # CEDS means postsecondary by PS; a school district that writes it has small children, not students
    **dict.fromkeys(("ps", "pr", "pres", "prs", "p3", "pk3", "k0", "k3", "-2", "ec", "ece", "ee", "earlychildhood", "nursery"), "Preschool"),
    **dict.fromkeys(("pk", "pkg", "prek", "prekg", "prekinder", "vpk", "upk", "jk", "p4", "pk4", "k1", "k4", "-1"), "PreKindergarten"),
    **dict.fromkeys(("tk", "transitionalk", "transitionalkinder"), "TransitionalKindergarten"),
    **dict.fromkeys(("k", "kg", "kn", "kf", "kh", "kinder", "kindergarden", "sk", "k2", "k5"), "Kindergarten"),
    **dict.fromkeys(("pg", "postgrad"), "PostGraduate"),
    **dict.fromkeys(("ug", "ng", "nongraded", "ungr"), "Ungraded"),
    **{word: str(number) for number, words in enumerate(_NUMBER_WORDS, start=1) for word in words},
}
"""Other spellings. K0, K1 and K2 are Boston's for children of three, four and five years; -1 and -2 are PowerSchool's."""

_GRADE = r"(?:grades?|gr\.?|g)"
_NUMBERED_GRADE = re.compile(rf"(?:{_GRADE}[\s_-]*)?0*([0-9]{{1,2}})(?:\.0+)?(?:\s*(?:st|nd|rd|th))?(?:[\s_-]*{_GRADE}r?)?")
_WORDED_GRADE = re.compile(r"(?:(?:grade|gr\.?)\s+)?([a-z][a-z0-9]*)(?:\s+grader?)?")
_BETWEEN_GRADES = re.compile(r"\s*(?:[-\u2010-\u2015\u2212/&+,;]|\bto\b|\bthrough\b|\bthru\b|\band\b)\s*")
_EXCEL_DATE = re.compile(rf"(?:([0-9]{{1,2}})[\s-]({dates.MONTH})|({dates.MONTH})[\s-]([0-9]{{1,2}}))(?:,?[\s-]([0-9]{{4}}|[0-9]{{2}}))?")


def grade(text: str, today: date) -> Meaning:
    """Clever's grade, or a range of them such as `6-8` or `Kindergarten-5`; `Other` for a text that is none (contract 1.6.1).

    A spreadsheet makes dates of ranges: `8-Jun` was 6-8. It takes them to be of the year in which it runs, so older ones are no ranges.
    """
    key = " ".join(text.lower().split())
    if value := _OWN_GRADES.get(key):
        return Meaning(value)
    if value := _one_grade(key):
        return Meaning(value, CONVERTED)
    if value := _excel_range(key, today):
        return Meaning(value, EXCEL)
    if value := _range(key):
        return Meaning(value, "" if value.lower() == key else CONVERTED)
    return Meaning("Other", UNKNOWN)


def _one_grade(key: str) -> str | None:
    if match := _NUMBERED_GRADE.fullmatch(key):
        number = int(match.group(1))
        return "Kindergarten" if number == 0 else str(number) if number <= 13 else None
    if value := _GRADE_WORDS.get(key):
        return value
    match = _WORDED_GRADE.fullmatch(key)
    # hyphens may be left out between letters only: K-5 is a range
    word = match.group(1) if match else re.sub(r"[\s_-]", "", key) if key.replace("-", " ").replace(" ", "").isalpha() else ""
    return _GRADE_WORDS.get(word) or _OWN_GRADES.get(word)


def _excel_range(key: str, today: date) -> str | None:
    match = _EXCEL_DATE.fullmatch(key)
    if match is None:
        return None
    day, month = int(match.group(1) or match.group(4)), dates.MONTHS[(match.group(2) or match.group(3))[:3]]
    year = int(match.group(5) or today.year) % 100
    if not month < day <= 13 or (today.year - year) % 100 > 3:
        return None
    return f"{month}-{day}"


def _range(key: str) -> str | None:
    """`6-8` for `6–8`, `6 to 8` and `6, 7, 8`; None where what stands there is not in order."""
    texts = _BETWEEN_GRADES.split(re.sub(r"\bpre[\s-]+k", "prek", key), maxsplit=len(GRADES))
    if len(texts) < 2:
        return None
    parts = [_OWN_GRADES.get(text) or _one_grade(text) for text in texts]
    places = [GRADES.index(part) for part in parts if part is not None]
    if len(places) < len(parts) or max(places) > _HIGHEST or places[0] >= places[-1]:
        return None
    if len(places) > 2 and not set(key) & set(",;"):  # more likely a date than grades
        return None
    if set(key) & set(",;") and places != list(range(places[0], places[-1] + 1)):
        return None
    return f"{GRADES[places[0]]}-{GRADES[places[-1]]}"


# ---------------------------------------------------------------- people

_OWN_GENDERS = _own("M", "F", "X")
_GENDERS: Mapping[str, str] = {
    "male": "M", "boy": "M", "man": "M", "female": "F", "girl": "F", "woman": "F",
    "nonbinary": "X", "non binary": "X", "nb": "X", "gender x": "X", "gender nonbinary": "X",
}  # fmt: skip

_OWN_FLAGS = _own("Y", "N")
_FLAGS: Mapping[str, str] = {
    **dict.fromkeys(("yes", "true", "t", "1", "hispanic", "hispanic latino", "hispanic or latino"), "Y"),
    **dict.fromkeys(("no", "false", "f", "0", "not hispanic", "non hispanic", "not hispanic latino", "not hispanic or latino"), "N"),
}

RACES = (
    "Caucasian", "Asian", "Black or African American", "American Indian", "Hawaiian or Other Pacific Islander", "Two or More Races", "Unknown",
)  # fmt: skip
"""Clever's races: contract 1.6.3."""

_OWN_RACES = _own(*RACES, W=RACES[0], A=RACES[1], B=RACES[2], I=RACES[3], P=RACES[4], M=RACES[5])
_RACES: Mapping[str, str] = {
    **dict.fromkeys(("white", "european american", "wh7"), RACES[0]),
    **dict.fromkeys(("asian american", "as7"), RACES[1]),
    **dict.fromkeys(("black", "african american", "black african american", "aa", "bl7"), RACES[2]),
    **dict.fromkeys(("american indian alaska native", "american indian alaskan native", "american indian native alaskan", "alaska native"), RACES[3]),
    **dict.fromkeys(("native american", "native american alaska native", "alaskan native", "ai", "an", "ai an", "aian", "am7"), RACES[3]),
    **dict.fromkeys(("pacific islander", "hawaiian", "hawaiian pacific islander", "native hawaiian", "native hawaiian pacific islander"), RACES[4]),
    **dict.fromkeys(("nh", "pi", "nh pi", "nhpi", "nhopi", "pi7"), RACES[4]),
    **dict.fromkeys(("two more", "two more races", "2 more", "2 more races", "more than one race", "multiple", "multiple races", "mu7"), RACES[5]),
    **dict.fromkeys(("multi", "multi race", "multirace", "multi racial", "multiracial", "biracial", "mixed", "mixed race"), RACES[5]),
    # what is no race at all is not guessed to be one: Hispanic has a column of its own
    **dict.fromkeys(("hispanic", "hispanic latino", "latino", "h", "hi7", "u", "unspecified", "not specified"), RACES[6]),
    **dict.fromkeys(("declined", "declined to state", "decline to state", "prefer not to say", "not reported", "not available"), RACES[6]),
}
"""Other spellings, without "or", "and" and "other"."""

_OWN_MEALS = _own("Free", "Reduced", "Paid", "Other")
_MEALS: Mapping[str, str] = {
    **dict.fromkeys(("f", "y", "yes", "free lunch", "free meals", "free meal", "free lunch eligible", "eligible for free lunch"), "Free"),
    **dict.fromkeys(("r", "reduced price", "reduced lunch", "reduced price lunch", "reduced price meals", "reduced meals"), "Reduced"),
    **dict.fromkeys(("p", "n", "no", "full", "full price", "full pay", "paid lunch", "not eligible", "ineligible", "non eligible"), "Paid"),
}
"""Short codes are in files, but no list of Clever's names them: contract 1.6.4. A bare yes or no can only tell free from paid."""

_DISABILITIES: Mapping[str, str] = {
    "AUT": "Autism", "DB": "Deaf-blindness", "DD": "Developmental delay", "EMN": "Emotional disturbance", "HI": "Hearing impairment",
    "ID": "Intellectual Disability", "MD": "Multiple disabilities", "OI": "Orthopedic impairment", "OHI": "Other health impairment",
    "SLD": "Specific learning disability", "SLI": "Speech or language impairment", "TBI": "Traumatic brain injury", "VI": "Visual impairment",
    "OTHER": "Other",
}  # fmt: skip
"""Code → type: contract 1.6.7."""

_OWN_DISABILITIES = _own(*_DISABILITIES.values(), **_DISABILITIES)
_OWN_DISABILITY_CODES = {key: code for code, kind in _DISABILITIES.items() for key in (code.lower(), kind.lower())}
_OTHER_DISABILITY_CODES: Mapping[str, str] = {
    "autism spectrum disorder": "AUT", "asd": "AUT", "au": "AUT", "deaf blindness": "DB", "deafblindness": "DB", "deaf blind": "DB",
    "developmental disability": "DD", "developmentally delayed": "DD", "emotional disability": "EMN", "emotionally disturbed": "EMN", "ed": "EMN", "ebd": "EMN",
    "hearing impaired": "HI", "deafness": "HI", "deaf": "HI", "hard of hearing": "HI", "intellectual disabilities": "ID", "multiple disability": "MD",
    "orthopedic": "OI", "orthopedically impaired": "OI", "other health impaired": "OHI", "other health impairments": "OHI",
    "specific learning disabilities": "SLD", "learning disability": "SLD", "ld": "SLD", "speech language impairment": "SLI", "speech impairment": "SLI",
    "speech and language impairment": "SLI", "si": "SLI", "language impairment": "SLI", "visually impaired": "VI", "blindness": "VI",
    "visual impairment including blindness": "VI",
}  # fmt: skip
_OTHER_DISABILITIES = {name: _DISABILITIES[code] for name, code in _OTHER_DISABILITY_CODES.items()}


def gender(text: str) -> Meaning:
    """`M`, `F` or `X` (contract 1.6.2: Clever's old demonstration set has words)."""
    return _looked_up(text, _OWN_GENDERS, _GENDERS)


def flag(text: str) -> Meaning:
    """`Y` or `N`."""
    return _looked_up(text, _OWN_FLAGS, _FLAGS)


def race(text: str) -> Meaning:
    """One of Clever's races, from its letters and names (contract 1.6.3); several of them are `Two or More Races`."""
    if (meaning := _one_race(text)).code != UNKNOWN:
        return meaning
    parts = {_one_race(part.strip()).value for part in re.split(r"[,;|/&+]|\band\b", text, maxsplit=len(RACES))}
    if parts <= set(RACES[:5]):
        return Meaning(RACES[5] if len(parts) > 1 else parts.pop(), CONVERTED)
    return meaning


def _one_race(text: str) -> Meaning:
    if value := _OWN_RACES.get(text.lower()):
        return Meaning(value)
    value = _RACES.get(" ".join(word for word in _plain(text).split() if word not in ("or", "and", "other")))
    return Meaning(value, CONVERTED) if value else Meaning("", UNKNOWN)


def meal_status(text: str) -> Meaning:
    """`Free`, `Reduced`, `Paid` or `Other` (contract 1.6.4)."""
    return _looked_up(text, _OWN_MEALS, _MEALS)


def disability(text: str) -> Meaning:
    """One of Clever's types of disability, from its name or code (contract 1.6.7)."""
    return _looked_up(text, _OWN_DISABILITIES, _OTHER_DISABILITIES)


def disability_code(text: str) -> Meaning:
    """The code of a disability in upper case, from its code or name (contract 1.6.7)."""
    return _looked_up(text, _OWN_DISABILITY_CODES, _OTHER_DISABILITY_CODES)


_OWN_LANGUAGES = {key.lower(): name for name, codes in LANGUAGES.items() for key in (name, *codes.split())}
_LANGUAGE_WORDS = {_plain(name): name for name in LANGUAGES} | dict(ALIASES)


def language(text: str) -> Meaning:
    """The language's English name as Clever's API has it, from its name or an ISO 639 code; an unknown one is kept as sent (contract 1.6.5)."""
    return _looked_up(text, _OWN_LANGUAGES, _LANGUAGE_WORDS, otherwise=text)


# ---------------------------------------------------------------- contacts

_OWN_CONTACT_TYPES = _own("Parent/Guardian", "Emergency", "Primary", "Secondary", "Family", "Other")
_OWN_RELATIONSHIPS = _own("Parent", "Grandparent", "Self", "Aunt/Uncle", "Sibling", "Other")

_PARENT = ("parent", "mother", "father", "mom", "dad", "mum", "stepmother", "stepfather", "stepparent", "stepmom", "stepdad", "madre", "padre")
_GRANDPARENT = ("grandparent", "grandmother", "grandfather", "grandma", "grandpa", "abuela", "abuelo")
_AUNT_OR_UNCLE = ("aunt", "uncle", "tia", "tio")
_SIBLING = ("sibling", "brother", "sister", "stepbrother", "stepsister", "halfbrother", "halfsister")
_RELATIVE = ("family", "relative", "cousin", "niece", "nephew")

_CONTACT_TYPE_WORDS: tuple[tuple[str, frozenset[str]], ...] = (
    ("Parent/Guardian", frozenset({"guardian", *_PARENT})),
    ("Emergency", frozenset({"emergency"})),
    ("Primary", frozenset({"primary"})),
    ("Secondary", frozenset({"secondary"})),
    ("Family", frozenset((*_GRANDPARENT, *_AUNT_OR_UNCLE, *_SIBLING, *_RELATIVE))),
    ("Other", frozenset({"other"})),
)
"""Clever's keywords in its own order (contract 1.6.8), and words of the same sense that it leaves out."""

_RELATIONSHIP_WORDS: tuple[tuple[str, frozenset[str]], ...] = (
    ("Grandparent", frozenset(_GRANDPARENT)),
    ("Aunt/Uncle", frozenset(_AUNT_OR_UNCLE)),
    ("Sibling", frozenset(_SIBLING)),
    ("Parent", frozenset(_PARENT)),
    ("Self", frozenset({"self", "student"})),
    ("Other", frozenset((*_RELATIVE, "other", "guardian", "caregiver", "custodian", "foster", "godmother", "godfather", "godparent", "friend", "neighbor"))),
    ("Other", frozenset({"spouse", "husband", "wife", "partner", "nanny", "babysitter", "sitter", "caseworker", "doctor", "daycare", "agency", "none"})),
)

_OWN_PHONE_TYPES = _own("Cell", "Home", "Work", "Other")
_PHONE_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("c", "m", "mobile", "cellular", "cell phone", "cellphone", "mobile phone", "cellular phone", "wireless", "text"), "Cell"),
    **dict.fromkeys(("h", "home phone", "house", "house phone", "landline", "land line", "residence", "residential", "evening"), "Home"),
    **dict.fromkeys(("w", "work phone", "office", "office phone", "business", "business phone", "day", "daytime", "day phone"), "Work"),
    **dict.fromkeys(("o", "other phone", "fax", "pager", "message", "alternate", "alternative", "alt", "secondary", "emergency", "primary"), "Other"),
}


def contact_type(text: str) -> Meaning:
    """Clever's type of a contact, by keyword; blank where no word of the text is one (contract 1.6.8)."""
    return _by_keyword(text, _OWN_CONTACT_TYPES, _CONTACT_TYPE_WORDS, "")


def relationship(text: str) -> Meaning:
    """Clever's relationship of a contact, by keyword; `Other` where no word of the text is one (contract 1.6.8)."""
    return _by_keyword(text, _OWN_RELATIONSHIPS, _RELATIONSHIP_WORDS, "Other")


def relationship_of_type(text: str) -> str:
    """The relationship that a contact's type tells: `Mother` is a parent, `Emergency` may be anybody, and is blank."""
    told = relationship(text)
    return told.value if told.code != UNKNOWN and told.value != "Other" else ""


def phone_type(text: str) -> Meaning:
    """`Cell`, `Home`, `Work` or `Other`."""
    return _looked_up(text, _OWN_PHONE_TYPES, _PHONE_TYPES, otherwise="Other")


def _by_keyword(text: str, own: Mapping[str, str], keywords: Iterable[tuple[str, frozenset[str]]], otherwise: str) -> Meaning:
    """Whole words only, so that a grandmother is no mother, in one word or two."""
    if value := own.get(text.lower()):
        return Meaning(value)
    words = set(re.findall(r"[a-z]+", re.sub(r"(?<![a-z])(grand|step|half|god)[\s-]+(?=[a-z])", r"\1", text.lower())))
    words |= {word.removesuffix("s") for word in words}
    return next((Meaning(value, CONVERTED) for value, known in keywords if words & known), Meaning(otherwise, UNKNOWN))


PHONE = r"[0-9]{10}(?:x[0-9]{1,7})?"
"""A phone as it is kept: ten digits and, where there is one, the extension."""

_PHONE_AS_SENT = r"(?i)^(?:\+?1[\s./-]*)?\(?([0-9]{3})\)?[\s./-]*([0-9]{3})[\s./-]*([0-9]{4})(?:[\s,;.-]*(?:extension|ext|ex|x|#)[\s.:#]*([0-9]{1,7}))?$"


def phones(cells: pa.Array) -> pa.Array:
    """Ten digits each, without the 1 before them and without punctuation; an extension follows as `x218`. What is no such phone is kept as sent.

    Clever wants ten or eleven digits (contract 1.4.2), real files have all else; the same phone must read the same each night.
    """
    digits = pc.match_substring_regex(cells, r"^(?:[0-9]{10})?$")
    if pc.all(digits).as_py() is not False:
        return cells
    odd = cells.filter(pc.invert(digits))
    read = pc.utf8_rtrim(pc.replace_substring_regex(odd, _PHONE_AS_SENT, r"\1\2\3x\4"), characters="x")
    return pc.replace_with_mask(cells, pc.invert(digits), pc.if_else(pc.match_substring_regex(odd, _PHONE_AS_SENT), read, odd))


# ---------------------------------------------------------------- attendance

_OWN_ATTENDANCE = _own("absent", "tardy", "present")
_ATTENDANCE: Mapping[str, str] = {"late": "tardy"}
_OWN_ATTENDANCE_TYPES = _own("daily", "section")


def attendance(text: str) -> Meaning:
    """`absent`, `tardy` or `present` (contract 1.9)."""
    return _looked_up(text, _OWN_ATTENDANCE, _ATTENDANCE)


def attendance_type(text: str) -> Meaning:
    """`daily` or `section` (contract 1.9)."""
    return _looked_up(text, _OWN_ATTENDANCE_TYPES, {})


# ---------------------------------------------------------------- dates


def day(text: str, today: date) -> Meaning:
    """The date as `YYYY-MM-DD`; of a year of two digits the century nearest to today (contract 1.6.6)."""
    return _dated(dates.read(text, lambda year: dates.nearest(year, today)))


def birth_date(text: str, today: date) -> Meaning:
    """The same of a person's birth, which was before today and within 120 years."""
    found = dates.read(text, lambda year: dates.past(year, today))
    return _dated(found if found is not None and found.day <= today and found.day.year >= today.year - 120 else None)


def _dated(found: dates.Found | None) -> Meaning:
    if found is None:
        return Meaning("", UNREADABLE)
    return Meaning(found.day.isoformat(), CONVERTED if found.guessed else "")


# ---------------------------------------------------------------- types of a contract's fields

DATES = frozenset({"date", "birth_date"})
"""Types whose cells are never shown."""

KEYWORDS = frozenset({"contact_type", "relationship"})
"""Types that are read from any text with a known word in it, so that even a text that was understood may hold more."""

PATTERNS: Mapping[str, str] = {"email": r"[^@\s,;]+@[^@\s,;]+\.[^@\s,;]+", "phone": PHONE}
"""Type of a contract's field → how its values look; others are kept as sent, with a warning."""


def readers(today: date) -> Mapping[str, Reader]:
    """Type of a contract's field → what reads its texts, on this day."""
    return {
        "grade": partial(grade, today=today),
        "gender": gender,
        "flag": flag,
        "race": race,
        "meal_status": meal_status,
        "language": language,
        "disability": disability,
        "disability_code": disability_code,
        "contact_type": contact_type,
        "relationship": relationship,
        "phone_type": phone_type,
        "attendance": attendance,
        "attendance_type": attendance_type,
        "date": partial(day, today=today),
        "birth_date": partial(birth_date, today=today),
    }


_ON_ANY_DAY = readers(date(2100, 1, 1))


def understood(type: str, text: str) -> bool:
    """Whether a text could be one of a type's values, or is kept as it is; of a date it is not asked whether it is likely."""
    reader = _ON_ANY_DAY.get("date" if type in DATES else type)
    if reader is None:
        return True
    meaning = reader(text)
    return meaning.code not in NOT_UNDERSTOOD or meaning.value == text
