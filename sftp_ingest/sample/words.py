"""The words that made-up districts are made of: names, streets, courses, terms."""

from __future__ import annotations

import numpy as np

PERIODS = 6
BANDS = ((0, 5), (6, 8), (9, 12))  # lowest and highest grade of elementary, middle and high schools
KINDS = ("Elementary School", "Middle School", "High School")

FIRST = (
    "Olivia", "Liam", "Emma", "Noah", "Ava", "Oliver", "Sophia", "Elijah", "Mateo", "Mia", "Lucas", "Amelia", "José", "Zoë", "Renée", "André",
    "Siobhán", "Aaliyah", "DeShawn", "Jean-Luc", "Xóchitl", "Ming", "Priya", "Arjun", "Fatima", "Omar", "Søren", "Björn", "Łukasz", "Ngọc", "María",
    "Juan", "Anne-Marie", "Chloé", "Ibrahim", "Grace", "Hannah", "Ezra", "Ruth", "Sana",
)  # fmt: skip
LAST = (
    "Smith", "Johnson", "Williams", "Brown", "Jones", "García", "Miller", "Davis", "Rodríguez", "Martínez", "Hernández", "López", "González",
    "Wilson", "Anderson", "Thomas", "Taylor", "Moore", "Lee", "Pérez", "White", "Sánchez", "Clark", "Lewis", "Walker", "Young", "King", "Wright",
    "Torres", "Nguyễn", "Hill", "Green", "Adams", "Baker", "Rivera", "Campbell", "O'Brien", "D'Angelo", "N'Diaye", "Smith-Jones",
    "Müller-Lüdenscheidt", "Kowalczyk", "Åberg", "Çelik", "Ó'Súilleabháin", "Okafor", "Kim", "Patel",
)  # fmt: skip
MIDDLE = ("", "", "", "A", "Marie", "Lee", "J.", "Élise")
STREETS = (
    "Oak", "Maple", "Cedar", "Pine", "Elm", "Washington", "Lake", "Hill", "Main", "Park", "View", "Walnut", "Spring", "North", "Church", "Willow",
)  # fmt: skip
UNITS = (*[""] * 14, ", Apt 3", ", Apt 12B", ", Unit 7, rear", ' "Garden House"')
TOWNS = ("Springfield", "Riverside", "Franklin", "Greenfield", "Bristol", "Clinton", "Fairview", "Salem")
ZIPS = ("01103", "02790", "02038", "01301", "02780", "01510", "01020", "01970")
GRADES = ("Kindergarten", *(str(grade) for grade in range(1, 13)))
GENDERS = (*("M", "F") * 12, "X", "")
RACES = (
    *("Caucasian", "Black or African American", "Asian", "Two or More Races") * 3,
    "American Indian", "Hawaiian or Other Pacific Islander", "Unknown", "",
)  # fmt: skip
FLAGS = ("N", "N", "N", "N", "N", "Y", "")
LANGUAGES = (*["English"] * 9, "Spanish", "Spanish", "Vietnamese", "Arabic", "Portuguese", "Somali", "")
LUNCHES = ("Paid", "Paid", "Free", "Reduced", "")
HOUSES = ("Heron", "Otter", "Fox", "Owl")
TITLES = ("Teacher", "Teacher", "Lead Teacher", "Teacher, Special Education", "")
OFFICES = ("Front Office", "Counseling", "Technology")
POSTS = ("Secretary", "Counselor", "Technician")

CONTACTS = np.array((1, 1, 1, 2, 1, 1, 1, 1, 0, 1, 1, 3, 1, 1, 1, 2, 1, 1, 1, 1))  # of every twenty students; 24 rows
RELATIONSHIPS = ("Parent", "Parent", "Grandparent")
CONTACT_TYPES = ("Parent/Guardian", "Secondary", "Emergency")
PHONE_TYPES = ("Cell", "Work", "Home")

SUBJECTS = ("english/language arts", "math", "science", "social studies", "arts and music", "PE and health")
COURSES = (
    *(f"{subject} {grade or 'K'}" for grade in range(6) for subject in ("Reading", "Math", "Science", "Communities", "Art, Music and Dance", "Gym")),
    *(f"{subject} {grade}" for grade in range(6, 9) for subject in ("English", "Math", "Science", "Geography", "Art, Studio", "Health")),
    *("English 9", "Algebra I", "Biology", "World History", 'Band "Blue"', "Physical Education 9"),
    *("English 10", "Geometry", "Chemistry", "Civics", 'Band "Gold"', "Physical Education 10"),
    *("English 11", "Algebra II", "Physics", "US History", "Painting, Drawing", "Health 11"),
    *("English 12", 'AP Calculus "AB"', "Earth Science", "Economics", "Theater", "Physical Education 12"),
)
"""One course a grade and period: `grade * PERIODS + period`."""

TERMS = ("Full Year", "Fall Semester")
TERM_ENDS = ("06/11/2027", "12/18/2026")
