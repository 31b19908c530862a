"""The site: every block of its pages runs, every command parses, and what is broken or undocumented fails the build."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from manual import __main__ as manual
from manual import check, docstrings, figure, reference
from manual.errors import Undocumented
from safetensors.torch import save_file

from spikeproof import parts
from spikeproof.commands import parsed
from spikeproof.errors import UsageError
from spikeproof.study.config import load_study

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted(DOCS.glob("*.md")),
]
PAGES = [path for path in DOCUMENTS if re.match("index|start|howto-|explain-", path.name)]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def commands(path: Path) -> list[str]:
    """Every line of a shell block, and every `command` in the text that is one of ours."""
    lines = [line for block in blocks(path, "sh") for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return lines + re.findall(r"`((?:spikeproof [a-z]|make [a-z]|python -m )[^`]*)`", " ".join(prose.split()))


def test_a_block_is_of_a_language_that_is_tested_and_pages_are_found() -> None:
    assert {"index.md", "start.md", "howto-own-network.md", "explain-sparsity.md"} <= {path.name for path in PAGES}
    for path in DOCUMENTS:
        fences = re.findall(r"^```(\w*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert {*fences} - {""} <= {"python", "sh", "yaml", "text"}, path.name
        assert "yaml" not in fences or path in PAGES, path.name


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path, "python")], ids=lambda path: path.stem)
def test_every_python_block_of_a_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order and in one world; where the page has weights, they lie beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, path.stem, page := ModuleType(path.stem))  # a dataclass looks its module up
    world = vars(page)
    with torch.random.fork_rng(devices=[]):
        for block in blocks(path, "python"):
            exec(compile(block, path.name, "exec"), world)
            if callable(make := world.get("make")):
                save_file(make().state_dict(), tmp_path / "weights.safetensors")


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path, "yaml")], ids=lambda path: path.stem)
def test_every_study_of_a_page_is_one(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules that the page has written lie beside it; each cell is read to its end, with what it names."""
    for block in blocks(path, "python"):
        if name := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / name[1]).write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for block in blocks(path, "yaml"):
        (tmp_path / "study.yaml").write_text(block, encoding="utf-8")
        assert load_study(tmp_path / "study.yaml").cells()


def test_the_defence_of_the_page_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss is the sum of the two cross-entropies, the second at what `craft` gives."""
    monkeypatch.setitem(sys.modules, "my_defence", module := ModuleType("my_defence"))
    exec(blocks(DOCS / "howto-own-defence.md", "python")[0], vars(module))
    weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()
    x, y = torch.rand(5, 4, generator=torch.Generator().manual_seed(1)).double(), torch.arange(5) % 3
    got = module.Halves(0.5)(lambda z, rule, keys: z @ weight, x, y, None, None, lambda x, y, keys: 1 - x)
    plain = [torch.nn.functional.cross_entropy(z @ weight, y) for z in (x, 1 - x)]
    torch.testing.assert_close(got, plain[0] + 0.5 * plain[1])


def one(line: str) -> None:
    """A command of the docs is one that there is, with options that there are; nothing is run."""
    words = shlex.split(line, comments=True)
    if not words or words == [".", ".venv/bin/activate"]:
        return
    if words[0] == "spikeproof" and len(words) == 2:  # a verb by its name
        assert find_spec(f"spikeproof.commands.{words[1]}") or parsed(words[1:])
    elif words[0] == "spikeproof":
        if words[2:] == ["--help"]:  # prints, and ends the process
            words[1:] = ["report", "runs"] if find_spec(f"spikeproof.commands.{words[1]}") else words[1:]
        parsed(words[1:])
    elif words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= TARGETS, line
    elif words[:2] == ["python", "-m"]:
        assert find_spec(words[2]) is not None, line
    else:
        raise AssertionError(f"a command that no test knows: {line}")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_command_is_one_that_there_is(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cell.yaml").write_text("name: one\n", encoding="utf-8")
    for line in commands(path):
        one(line)


@pytest.mark.parametrize("line", ["spikeproof stuydy a.yaml", "spikeproof report --fast runs", "make dmeo", "rm -rf /"])
def test_a_command_that_is_none_is_seen(line: str) -> None:
    with pytest.raises((AssertionError, UsageError), match=r"study|fast|dmeo|no test knows"):
        one(line)


def test_a_program_in_a_text_block_of_the_results_finds_its_names(tmp_path: Path) -> None:
    """Run on an empty folder of cells, so that its imports and its loop are looked at and nothing else."""
    (program,) = (block for block in blocks(DOCS / "results.md", "text") if block.startswith('"""'))
    before, sys.argv = sys.argv, ["-", str(tmp_path)]
    try:
        exec(compile(program, "results.md", "exec"), {})
    finally:
        sys.argv = before


def test_the_reference_has_every_part_with_its_options() -> None:
    index = reference.parts_index()
    for folder in parts.FOLDERS:
        page = reference.parts_page(folder)
        for name, arguments, _ in parts.describe(folder):
            assert f"({folder}.md#{name})" in index
            text = page.split(f"{{ #{name} }}")[1].split("\n## ")[0]
            for option in re.findall(r"(?:^|, )(\w+)(?==|,|$)", re.sub(r"\(.*?\)", "", arguments)):
                assert f"| `{option}` |" in text, (folder, name, option)


def test_the_reference_has_every_name_of_the_package() -> None:
    import spikeproof

    page = reference.api_page(*reference.API["package"])
    assert all(f"#spikeproof.{name} " in page for name in spikeproof.__all__ if not name.startswith("__"))


@pytest.mark.parametrize(
    "lacking", ["def f():\n    pass", "class C:\n    pass", "class C:\n    '''.'''\n    def f(self):\n        pass",
                "from dataclasses import dataclass\n@dataclass\nclass C:\n    x: int"],
)  # fmt: skip
def test_a_public_object_without_a_docstring_fails_the_build(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m manual` writes no site of a module that offers it, and names it."""
    name = "C" if "class" in lacking else "f"
    (tmp_path / "undocumented.py").write_text(f'"""A module."""\n__all__ = ["{name}"]\n{lacking}\n', encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "undocumented", raising=False)
    importlib.invalidate_caches()
    monkeypatch.setitem(reference.API, "package", ("A page", ("undocumented",)))
    assert manual.main([str(tmp_path / "docs")]) == 1
    assert f"undocumented.{name}" in capsys.readouterr().err


def test_a_part_without_a_docstring_fails_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from spikeproof.attacks.pgd import PGD

    monkeypatch.setattr(PGD, "__doc__", None)
    with pytest.raises(Undocumented, match=r"spikeproof\.attacks\.pgd\.PGD"):
        reference.parts_page("attacks")


def test_a_docstring_is_prose() -> None:
    assert docstrings.markdown("a <b> (B,*)\n\n    x = 1\n\n>>> 1\n1") == (
        "a &lt;b&gt; (B,\\*)\n\n```text\nx = 1\n```\n\n```pycon\n>>> 1\n1\n```"
    )
    assert docstrings.escaped("1. one\n- two\n-3") == "1\\. one\n\\- two\n-3"
    for module in (docstrings, manual):
        assert doctest.testmod(module).failed == 0


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "b.html").write_text("<h1 id=there>B</h1>", encoding="utf-8")
    (tmp_path / "a.css").write_text("p { background: url(data:image/png;base64,AA==) }", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ("<a href='b.html#there'>b</a><link rel=stylesheet href=a.css><a href='https://example.org'>out</a>", None),
        ("<link rel=canonical href='https://example.org/a.html'>", None),
        ("<a href='c.html'>c</a>", "leads to c.html, which is not there"),
        ("<a href='b.html#nowhere'>b</a>", "a page without that place"),
        ("<script src='https://cdn.example/x.js'></script>", "from outside"),
        ("<script src='//cdn.example/x.js'></script>", "from outside"),
        ("<link rel='stylesheet' href='https://fonts.example/css'>", "from outside"),
        ("<link rel=preconnect href='https://fonts.example'>", "from outside"),
        ("<img src=missing.png>", "loads missing.png, which is not there"),
        ("<img srcset='https://cdn.example/2x.png 2x'>", "from outside"),
        ("<style>@import 'https://fonts.example/css'</style>", "from outside"),
        ("<p style='background: url(https://cdn.example/p.png)'>", "from outside"),
    ],
)
def test_what_a_browser_would_miss_or_fetch_is_seen(
    html: str, fault: str | None, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "a.html").write_text(html, encoding="utf-8")
    assert check.main([str(site)]) == (0 if fault is None else 1)
    assert (fault or "hold together") in capsys.readouterr().out


def test_a_font_of_a_stylesheet_and_an_empty_folder_are_seen(site: Path, tmp_path: Path) -> None:
    (site / "a.css").write_text("@font-face { src: url(https://fonts.example/a.woff2) }", encoding="utf-8")
    assert list(check.faults(site)) == ["a.css: loads https://fonts.example/a.woff2 from outside"]
    (empty := tmp_path / "empty").mkdir()
    assert check.main([str(empty)]) == 1


def test_mkdocs_is_strict_and_has_a_place_for_every_page() -> None:
    config = yaml.safe_load((ROOT / "manual" / "mkdocs.yml").read_text(encoding="utf-8"))
    assert config["strict"] is True
    assert set(config["validation"].values()) == {"warn"}
    named = set(re.findall(r"[\w/-]+\.md", str(config["nav"])))
    assert {path.name for path in DOCS.glob("*.md")} <= named
    assert {f"reference/parts/{folder}.md" for folder in parts.FOLDERS} <= named
    assert {f"reference/{page}.md" for page in reference.API} <= named


@pytest.mark.parametrize("broken", ["[x](nowhere.md)", "[x](b.md#nowhere)"])
def test_a_broken_link_fails_the_build_of_mkdocs(broken: str, tmp_path: Path) -> None:
    """With the site's own strictness, on two small pages; where `make docs` has made its environment."""
    mkdocs = ROOT / ".venv-docs" / "bin" / "mkdocs"
    if not mkdocs.exists():
        pytest.skip("no environment of make docs here")
    own = (ROOT / "manual" / "mkdocs.yml").read_text(encoding="utf-8")
    (strict,) = re.findall(r"^strict:.*?(?=^theme:)", own, re.MULTILINE | re.DOTALL)
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x\n{strict}", encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "b.md").write_text("# B\n", encoding="utf-8")
    codes = []
    for text in ("[x](b.md)", broken):
        (tmp_path / "docs" / "index.md").write_text(f"# A\n\n{text}\n", encoding="utf-8")
        codes.append(subprocess.run([mkdocs, "build"], cwd=tmp_path, capture_output=True).returncode)
        shutil.rmtree(tmp_path / "site", ignore_errors=True)
    assert codes[0] == 0
    assert codes[1] != 0


def test_the_figure_says_what_the_results_say() -> None:
    """The committed picture is that of the table of today, number by number; its bytes are matplotlib's affair."""
    table = (DOCS / "results.md").read_text(encoding="utf-8")
    rows = figure.networks(table)
    assert len(rows) == 6
    picture = (DOCS / "demo.svg").read_text(encoding="utf-8")
    for row in rows:
        assert f"<title>{row}</title>" in picture
        line = next(line for line in table.splitlines() if line.startswith(f"| {row.name} |"))
        assert all(str(number) in line for number in (row.clean, row.plain, row.worst, row.slack, row.gini))


def test_the_figure_is_drawn_again() -> None:
    rows = [figure.Network("a & b", 90.0, 50.0, 20.0, 5.0, 0.4), figure.Network("c", 80.0, 40.0, 30.0, 1.0, 0.6)]
    drawn = figure.drawn(rows)
    assert "a &amp; b: 90.0 % clean, 50.0 % under PGD-20, 20.0 % in the worst case" in drawn
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", drawn)
