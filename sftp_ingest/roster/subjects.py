"""What a section is about: one of Clever's eleven subjects, taken from its Subject or guessed from the words of its names (contract 1.6.9)."""

from __future__ import annotations

import re
from collections.abc import Mapping

SUBJECTS = (
    "english/language arts", "math", "science", "social studies", "language", "homeroom/advisory", "interventions/online learning",
    "technology and engineering", "PE and health", "arts and music", "other",
)  # fmt: skip
"""Clever's subjects: contract 1.6.9."""

OTHER = "other"

_OWN = {subject.lower(): subject for subject in SUBJECTS}

_PHRASES: Mapping[str, tuple[str, ...]] = {
    "homeroom/advisory": (
        "homeroom", "home room", "hr", "advisory", "advisor", "advisement", "morning meeting", "mentoring", "study hall", "flex", "attendance",
    ),
    "interventions/online learning": (
        "rti", "mtss", "win", "intervention", "math intervention", "reading intervention", "english intervention", "ela intervention", "science intervention",
        "reading recovery", "reading support", "math support", "academic support", "learning support", "math lab", "reading lab", "learning lab",
        "resource", "remediation", "tutorial", "tutoring", "study skills", "credit recovery", "online learning", "virtual learning", "distance learning",
        "edgenuity", "enrichment", "title i", "special education", "sped",
    ),
    "technology and engineering": (
        "technology", "tech", "computer", "computer science", "comp sci", "cs", "computing", "coding", "programming", "robotics", "engineering",
        "stem", "steam", "keyboarding", "cad", "drafting", "web design", "game design", "digital literacy", "cybersecurity", "networking", "data science",
        "industrial arts", "woodworking", "wood shop", "woodshop", "electronics", "automotive", "welding", "makerspace", "multimedia",
    ),
    "social studies": (
        "social studies", "social study", "social science", "soc studies", "soc stu", "soc st", "ss", "history", "hist", "civics", "government", "gov",
        "govt", "geography", "geog", "economics", "econ", "psychology", "psych", "sociology", "anthropology", "political science", "poli sci",
        "humanities", "ethnic studies", "american studies", "world cultures", "current events", "law", "latin american history", "latin american studies",
        "apush", "citizenship", "philosophy", "history of science",
    ),
    "PE and health": (
        "pe", "p e", "physical education", "physical ed", "phys ed", "phy ed", "phys educ", "gym", "health", "health science", "wellness", "fitness",
        "sports", "sports medicine", "exercise science", "athletics", "weight training", "weights", "conditioning", "yoga", "swimming", "nutrition",
        "drivers education", "drivers ed", "martial arts", "aerobics", "first aid",
    ),
    "english/language arts": (
        "english", "eng", "english language", "english as a second language", "language arts", "lang arts", "ela", "la", "esl", "ell", "esol", "eld",
        "elp", "reading", "read", "writing", "write", "writers", "literature", "lit", "literacy", "comp", "composition", "grammar", "spelling", "phonics",
        "vocabulary", "handwriting", "journalism", "poetry", "speech", "debate", "communications", "rhetoric", "ap language", "ap lang",
        "language and composition", "science fiction", "yearbook", "newspaper", "mythology",
    ),
    "language": (
        "language", "world language", "foreign language", "spanish", "french", "german", "italian", "latin", "chinese", "mandarin", "cantonese",
        "japanese", "russian", "arabic", "portuguese", "korean", "hebrew", "greek", "hindi", "hmong", "vietnamese", "sign language", "asl", "span",
        "heritage speakers", "spanish literature", "french literature", "spanish composition",
    ),
    "arts and music": (
        "art", "art history", "visual arts", "media arts", "digital arts", "performing arts", "music", "music history", "music technology",
        "music composition", "band", "choir", "chorus", "choral", "chorale", "orchestra", "orch", "theater", "theatre", "drama", "dance", "ceramics",
        "pottery", "painting", "drawing", "photography", "photo", "digital photography", "sculpture", "guitar", "piano", "strings", "percussion", "jazz",
        "vocal", "voice", "ensemble", "symphony", "film", "graphic design", "animation", "acting", "french horn", "crafts", "printmaking", "illustration",
    ),
    "math": (
        "math", "mathematics", "algebra", "alg", "geometry", "geom", "calculus", "calc", "precalculus", "precalc", "trigonometry", "trig", "statistics",
        "stats", "stat", "probability", "arithmetic", "number sense", "numeracy", "quantitative reasoning", "computer math",
    ),
    "science": (
        "science", "sci", "biology", "bio", "chemistry", "chem", "physics", "physical science", "phys sci", "earth science", "life science",
        "environmental", "ecology", "astronomy", "anatomy", "physiology", "zoology", "botany", "geology", "oceanography", "forensics", "forensic science",
        "genetics", "meteorology", "microbiology", "biotechnology", "biomedical", "biochemistry",
    ),
    "other": ("home economics", "culinary arts", "liberal arts"),
}  # fmt: skip
"""Subject → words and phrases that tell it. Of several in a text the longest counts, and of equally long ones the subject that is listed first."""


def subject(subject: str, name: str, course_name: str) -> str:
    """One of Clever's subjects: that of Subject where it is one, in either case; else what the words of Subject, of Name or of Course_name tell first."""
    if own := _OWN.get(" ".join(subject.lower().split())):
        return own
    return next((guess for text in (subject, name, course_name) if (guess := _guess(text))), OTHER)


def _guess(text: str) -> str:
    """The subject that the text's words tell, or blank."""
    words = _words(text)
    runs = (" ".join(words[start : start + length]) for length in range(1, _LONGEST + 1) for start in range(len(words) - length + 1))
    return min((_TOLD[run] for run in runs if run in _TOLD), default=(0, 0, ""))[2]


def _words(text: str) -> list[str]:
    """The words in lower case, P.E. as pe, without digits and without the s of a plural."""
    words = re.findall(r"[a-z]+", re.sub(r"[.'\u2019]", "", text.lower()))
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words]


def _told() -> dict[str, tuple[int, int, str]]:
    """Phrase → what makes it count more than others (fewer is more), and its subject."""
    told: dict[str, tuple[int, int, str]] = {}
    for rank, (each, phrases) in enumerate(_PHRASES.items()):
        for phrase in phrases:
            words = _words(phrase)
            told.setdefault(" ".join(words), (-len(words), rank, each))
    return told


_TOLD = _told()
_LONGEST = max(-length for length, _, _ in _TOLD.values())
