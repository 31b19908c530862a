"""What is released says one version in all places, and its citation is one that validates."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import spikeproof

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

KEYS = {
    "abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords",
    "license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact",
    "repository-code", "title", "type", "url", "version",
}  # fmt: skip
"""Of a citation file, by the schema of its version 1.2.0 (citation-file-format/citation-file-format, schema.json)."""

OF_ENTITY = {
    "address", "alias", "city", "country", "date-end", "date-start", "email", "fax", "location", "name", "orcid",
    "post-code", "region", "tel", "website",
}  # fmt: skip
OF_PERSON = (OF_ENTITY - {"date-end", "date-start", "location", "name"}) | {
    "affiliation", "family-names", "given-names", "name-particle", "name-suffix",
}  # fmt: skip


def faults(citation: dict[str, Any]) -> list[str]:
    """In what a citation file is none, as far as the fields go that have been used here."""
    found = [f"no {name}" for name in ("authors", "cff-version", "message", "title") if not citation.get(name)]
    found += [f"unknown {name}" for name in citation.keys() - KEYS]
    for author in citation.get("authors") or ():
        if not author.keys() <= (OF_ENTITY if "name" in author else OF_PERSON):
            found.append(f"author {author}")
    texts = ("cff-version", "message", "title", "abstract", "license", "type", "version")
    found += [f"{name} is no text" for name in texts if not isinstance(citation.get(name, ""), str)]
    if citation.get("type", "software") not in ("software", "dataset"):
        found.append("type")
    if not re.fullmatch(
        r"\d{4}-(0[1-9]|1[012])-(0[1-9]|[12]\d|3[01])", str(citation.get("date-released", "2026-01-01"))
    ):
        found.append("date-released")
    return found


def test_the_version_stands_in_one_place_and_the_others_agree() -> None:
    """`spikeproof.__version__` is it; the topmost heading of the changelog is its own, and so is the citation."""
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "spikeproof.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", spikeproof.__version__)
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0] == spikeproof.__version__
    numbers = [tuple(map(int, heading.split("."))) for heading in headings]
    assert numbers == sorted(set(numbers), reverse=True)
    assert CITATION["version"] == spikeproof.__version__


def test_the_citation_validates() -> None:
    assert faults(CITATION) == []
    assert CITATION["license"] == PROJECT["project"]["license"]
    assert [author["name"] for author in CITATION["authors"]] == [one["name"] for one in PROJECT["project"]["authors"]]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"authors": []}, "no authors"), ({"autors": []}, "unknown autors"), ({"type": "paper"}, "type"),
        ({"authors": [{"name": "x", "affiliation": "y"}]}, "author {'name': 'x', 'affiliation': 'y'}"),
        ({"version": 0.2}, "version is no text"), ({"date-released": "2026-13-01"}, "date-released"),
    ],
)  # fmt: skip
def test_another_citation_would_not(change: dict[str, Any], fault: str) -> None:
    assert fault in faults({**CITATION, **change})


def test_every_kind_of_file_of_the_package_is_packed() -> None:
    """What is no Python is named by its folder and its ending; `make dist` holds the archives against the files."""
    home = ROOT / "src" / "spikeproof"
    packed = {
        path for pattern in PROJECT["tool"]["setuptools"]["package-data"]["spikeproof"] for path in home.glob(pattern)
    }
    others = {path for path in home.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others == packed
