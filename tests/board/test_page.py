"""The page of a board: who stands where, and that nothing of an entry becomes more than text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from entries import audit, by_hand, share

from spikeproof.board._fits import outcomes_digest
from spikeproof.board.entry import written
from spikeproof.board.page import entries, groups, write
from spikeproof.errors import UsageError

HOSTILE = '</td></title></style><script>alert(1)</script><img src=x onerror="alert(2)">{{ 7 * 7 }}\u202e\u0007'


def network(name: str, number: int, standing: int, **changes: Any) -> dict[str, Any]:
    """One of eight images of which so many stand; of a key of its own."""
    tree = by_hand(name, f"{number:016x}")
    tree["outcomes"]["fallen"] = [0] * (7 - standing) + [-1] * (standing + 1)
    tree["identity"]["outcomes"] = outcomes_digest(tree["outcomes"])
    tree["attacks"][0]["newly_broken"], tree["attacks"][1]["newly_broken"] = 7 - standing, 0
    tree["result"]["worst"] = share(standing)
    tree |= changes
    tree["seeds"] = [{"seed": 0, "key": tree["identity"]["key"], **tree["result"]}]
    return tree


def unsettled(name: str, number: int, standing: int) -> dict[str, Any]:
    result = {"clean": share(7), "worst": share(standing), "verdict": "unsettled"}
    return network(name, number, standing, audits=[audit("D21"), audit("D22", "red")], result=result)


def withheld(name: str, number: int) -> dict[str, Any]:
    result = {"clean": share(7), "worst": None, "verdict": "not evaluated"}
    return network(name, number, 6, audits=[{**audit("D1", "red"), "breaks": "not evaluated"}], result=result)


def put(folder: Path, *trees: dict[str, Any]) -> None:
    for tree in trees:
        written(folder / f"{tree['identity']['key']}-{tree['threat']['evaluation']}.json", tree)


def text_of(page: Path) -> str:
    return " ".join("".join(ElementTree.parse(page).getroot().itertext()).split())


def test_the_worst_case_ranks_and_what_is_not_settled_has_none(tmp_path: Path) -> None:
    lowered = network("lowered", 4, 6)
    ids = [one for one, fell in zip(lowered["outcomes"]["ids"], lowered["outcomes"]["fallen"], strict=True) if fell < 0]
    once = {"by": "a rival", "how": "Square", "date": "2026-11-28", "inputs": "1" * 64, "ids": ids[:1]}
    lowered["lowered"] = [once]
    put(
        tmp_path, network("third", 1, 3), network("first", 2, 6), network("tied", 3, 5), lowered,
        unsettled("an upper bound", 5, 7), withheld("withheld", 6),
    )  # fmt: skip
    (group,) = groups(entries(tmp_path)[0])
    found = [(rank, entry.name) for rank, entry in group.lines]
    assert found == [
        (1, "first"), (2, "lowered"), (2, "tied"), (4, "third"), (None, "an upper bound"), (None, "withheld"),
    ]  # fmt: skip
    page, refused = write(tmp_path, title="Board")
    assert refused == []
    said = text_of(page)
    assert "a rival (Square): 75.0 % to 62.5 %" in said
    assert "at most 87.5 %" in said
    assert "withheld" in said
    assert said.count("75.0 %[") == 1, "what was not evaluated has no number"


def test_other_images_and_other_threats_stand_apart(tmp_path: Path) -> None:
    one, other, third = network("one", 1, 3), network("other", 2, 4), network("third", 3, 5)
    other["threat"] |= {"eps": 0.2, "eps_text": "0.2"}
    other["config"]["evaluations"][0]["eps"] = ["0.2"]
    third["data"]["digest"] = "1" * 16
    put(tmp_path, one, other, third)
    found = groups(entries(tmp_path)[0])
    assert [(group.threat, [rank for rank, _ in group.lines]) for group in found] == [
        ("Linf on pixels, eps 0.1", [1]), ("Linf on pixels, eps 0.1", [1]), ("Linf on pixels, eps 0.2", [1]),
    ]  # fmt: skip


def test_a_claim_stands_beside_what_was_measured(tmp_path: Path) -> None:
    claim = {"robust": 0.6, "clean": None, "threat": "PGD-20", "source": "Somebody 2025, Table 2", "link": None}
    put(tmp_path, network("one", 1, 4, reported=claim))
    said = text_of(write(tmp_path, title="Board")[0])
    assert "60.0 %-10.0 points" in said
    assert "60.0 % robust, under PGD-20: Somebody 2025, Table 2" in said


def test_hostile_strings_stay_text(tmp_path: Path) -> None:
    """In every text of an entry and in the title; the page is XML, and has no element that it has not without them."""
    name = HOSTILE[:100] + "\u202e\u0007"
    plain, hostile = network("a", 1, 4), network(name, 1, 4)
    for tree, word in ((plain, "a"), (hostile, name)):
        for section in ("network", "data", "threat", "cost"):
            texts = {name for name, value in tree[section].items() if isinstance(value, str)}
            tree[section] |= dict.fromkeys(texts - {"split", "eps_text", "digest"}, word)
        tree["identity"] |= {"by": word, "spikeproof": word, "link": "https://a.b/c"}
        tree["config"]["evaluations"][0]["name"] = word
        tree["attacks"][0] |= {"attack": word, "group": word}
        tree["audits"].append({**audit(word, "red"), "name": word, "says": word, "breaks": "nothing"})
        tree["reported"] = {"robust": 0.5, "clean": None, "threat": word, "source": word, "link": None}
        fell = [id for id, one in zip(tree["outcomes"]["ids"], tree["outcomes"]["fallen"], strict=True) if one < 0][:1]
        tree["lowered"] = [{"by": word, "how": word, "date": "2026-11-28", "inputs": "1" * 64, "ids": fell}]
    trees = []
    for tree, title in ((plain, "a"), (hostile, HOSTILE)):
        folder = tmp_path / ("plain" if tree is plain else "hostile")
        written(folder / "one.json", tree)
        (folder / "bad.json").write_text(json.dumps({"schema": title}), encoding="utf-8")
        page, refused = write(folder, title=title)
        assert len(refused) == 1
        trees.append(ElementTree.parse(page).getroot())
        text = page.read_text(encoding="utf-8")
        assert [word for word in ("<script", "<img", "\u202e", "\u0007") if word in text] == []
    shapes = [[(one.tag, sorted(one.attrib)) for one in tree.iter()] for tree in trees]
    assert shapes[0] == shapes[1]


def test_nothing_is_loaded(tmp_path: Path) -> None:
    tree = network("one", 1, 4)
    tree["identity"]["link"] = "https://example.org/x"
    put(tmp_path, tree)
    page = write(tmp_path, title="Board")[0].read_text(encoding="utf-8")
    root = ElementTree.fromstring(page)
    outside = [
        value for one in root.iter() for name, value in one.attrib.items()
        if name in ("src", "href", "data", "action", "poster", "srcset") and not value.startswith("#")
    ]  # fmt: skip
    assert outside == []
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_what_is_refused_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    good, twice, other = network("good", 1, 4), network("good", 1, 4), network("spoilt", 2, 4)
    put(tmp_path, good, other)
    (tmp_path / "z-again.json").write_text(json.dumps(twice), encoding="utf-8")
    spoilt = tmp_path / f"{2:016x}-panel.json"
    spoilt.write_text(spoilt.read_text(encoding="utf-8").replace('"images": 8', '"images": 9'), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("none of its business", encoding="utf-8")
    page, refused = write(tmp_path, title="Board")
    assert [one.path.name for one in refused] == [spoilt.name, "z-again.json"]
    assert "outcomes.ids of an entry" in refused[0].says
    assert "identity.key" in refused[1].says
    said = text_of(page)
    assert "Not shown: 2 files" in said
    assert str(tmp_path) not in said
    assert "good" in said


def test_a_folder_without_entries_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="entries"):
            write(folder, title="Board")
    assert not (tmp_path / "board.html").exists()


def test_the_same_entries_give_the_same_page(tmp_path: Path) -> None:
    put(tmp_path, network("one", 1, 4), network("two", 2, 5))
    first = write(tmp_path, title="Board")[0].read_bytes()
    assert write(tmp_path, title="Board")[0].read_bytes() == first
