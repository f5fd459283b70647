"""Small districts in OneRoster's files, 1.1 and 1.2, for tests; they are read and applied by tests.unit.districts."""

from __future__ import annotations

from collections.abc import Mapping

from tests.unit.districts import Rows

Files = dict[str, Rows]


def small(version: str = "1.1", students: int = 6) -> Files:
    """The district of `tests.unit.districts.small`, as OneRoster tells it: with a district office, a member of staff, demographics and guardians."""
    users = [user(f"{number:04}", "student", "0011" if number % 2 else "0012", grades="07", agentSourcedIds=f"c{number}") for number in range(1, students + 1)]
    users += [user("t1", "teacher", "0011"), user("t2", "teacher", "d,0012"), user("p1", "principal", "0011"), user("p2", "administrator", "d")]
    users += [user(f"c{number}", "guardian", "d", phone="2125550100") for number in range(1, students + 1)]
    files = {
        "manifest": manifest(version),
        "orgs": [
            {"sourcedId": "d", "status": "", "name": "District", "type": "district", "identifier": ""},
            {"sourcedId": "0011", "status": "", "name": "School 0011", "type": "school", "identifier": "11"},
            {"sourcedId": "0012", "status": "", "name": "School 0012", "type": "school", "identifier": ""},
        ],
        "academicSessions": [{"sourcedId": "y", "title": "Year", "type": "schoolYear", "startDate": "2026-08-17", "endDate": "", "schoolYear": "2027"}],
        "courses": [
            {"sourcedId": name, "status": "", "title": name, "courseCode": f"{name}-1", "orgSourcedId": "d", "metadata.description": f"All of {name}"}
            for name in ("Math", "Art")
        ],
        "users": users,
        "demographics": [
            {"sourcedId": f"{number:04}", "birthDate": "2014-01-02", "sex": "female", "white": "true", "asian": "false", "hispanicOrLatinoEthnicity": "false"}
            for number in range(1, students + 1)
        ],
        "classes": [section("s1", "0011", "Math"), section("s2", "0012", "Math"), section("s3", "0011", "Art")],
        "enrollments": [membership("s1", "t1", "teacher"), membership("s2", "t2", "teacher"), membership("s3", "t1", "teacher")]
        + [membership("s1" if number % 2 else "s2", f"{number:04}", "student") for number in range(1, students + 1)]
        + [membership("s3", "0001", "student"), membership("s3", "t2", "teacher", primary="false")],
    }
    return files if version == "1.1" else _with_roles(files)


def whole(rows: Rows) -> Rows:
    """The rows with every column that any of them has."""
    columns = dict.fromkeys((name for row in rows for name in row), "")
    return [columns | row for row in rows]


def manifest(version: str = "1.1", **modes: str) -> Rows:
    """The manifest's lines; files are whole ones unless `modes` says else."""
    names = ("academicSessions", "classes", "courses", "demographics", "enrollments", "orgs", "users", *(("roles",) if version == "1.2" else ()))
    said = {"manifest.version": "1.0", "oneroster.version": version, **{f"file.{name}": modes.get(name, "bulk") for name in names}}
    return [{"propertyName": name, "value": value} for name, value in said.items()]


def changes(version: str = "1.1", **tables: Rows) -> Files:
    """A delivery of changes: only these files, each a delta, all others absent."""
    names = ("academicSessions", "classes", "courses", "demographics", "enrollments", "orgs", "users", "roles")
    return {"manifest": manifest(version, **{name: "delta" if name in tables else "absent" for name in names}), **tables}


def crowd(files: Files) -> None:
    """Ten further teachers in the first section, which has one."""
    people = [f"u{number}" for number in range(10)]
    files["users"] += [user(each, "teacher", "0011") for each in people]
    files["enrollments"] += [membership("s1", each, "teacher", primary="false") for each in people]


def user(sourced_id: str, role: str, orgs: str, **more: str) -> dict[str, str]:
    """One row of users.csv as 1.1 has it."""
    blank = dict.fromkeys(("status", "identifier", "phone", "agentSourcedIds", "grades"), "")
    names = {"givenName": f"First {sourced_id}", "familyName": f"Last {sourced_id}", "email": f"{sourced_id}@example.org"}
    return {"sourcedId": sourced_id, "enabledUser": "true", "orgSourcedIds": orgs, "role": role, "username": sourced_id} | names | blank | more


def section(sourced_id: str, school: str, course: str) -> dict[str, str]:
    """One row of classes.csv."""
    told = {"status": "", "title": f"{course} {sourced_id}", "courseSourcedId": course, "classCode": sourced_id, "classType": "scheduled"}
    return {"sourcedId": sourced_id, "schoolSourcedId": school, "termSourcedIds": "y", "periods": "1", "grades": "", "subjects": ""} | told


def membership(class_id: str, user_id: str, role: str, **more: str) -> dict[str, str]:
    """One row of enrollments.csv."""
    school = "0012" if class_id == "s2" else "0011"
    primary = "true" if role == "teacher" else "false"
    told = {"sourcedId": f"{class_id}:{user_id}", "status": "", "classSourcedId": class_id, "schoolSourcedId": school, "userSourcedId": user_id}
    return told | {"role": role, "primary": primary} | more


def _with_roles(files: Mapping[str, Rows]) -> Files:
    """The same as 1.2 tells it: orgs and roles of people in a file of their own."""
    roles, users = [], []
    for row in files["users"]:
        kept = {name: value for name, value in row.items() if name not in ("orgSourcedIds", "role")}
        orgs = row["orgSourcedIds"].split(",")
        users.append(kept | {"primaryOrgSourcedId": orgs[-1]})
        roles.append(
            {"sourcedId": f"{row['sourcedId']}:1", "status": "", "userSourcedId": row["sourcedId"], "roleType": "primary", "role": row["role"]}
            | {"orgSourcedId": orgs[-1]}
        )
    return {**files, "users": users, "roles": roles}
