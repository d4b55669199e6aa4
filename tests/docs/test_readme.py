"""What README shows is what happens: its Python runs, its commands run, its links lead somewhere.

```` ```python ```` blocks are executed in order in one namespace, ```` ```bash ```` and ```` ```console ````
blocks have their `pkmodel ...` lines run and their `make ...` targets looked up, all in one temporary folder.
A block that only shows a form (placeholders, output) is marked ```` ```text ````.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import ROOT

PAGES = sorted(p for p in ROOT.glob("*.md")) + sorted(
    p for folder in ("models", "fitting", "datasets", "notebooks") for p in (ROOT / folder).rglob("*.md")
)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page: its language, its text, and the line its text starts on."""

    language: str
    text: str
    line: int


def _blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    return [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in FENCE.finditer(text)]


def _commands(block: Block) -> list[str]:
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":  # there, lines without a prompt are output
        lines = [line for line in lines if line.startswith("$ ")]
    return [line.removeprefix("$ ").strip() for line in lines]


def _run_pkmodel(command: str, folder: Path) -> None:
    arguments = shlex.split(command, comments=True)[1:]
    start = [sys.executable, "-c", "from pkmodel.cli import main; main()", *arguments]
    done = subprocess.run(start, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_readme_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = ROOT / "README.md"
    assert readme.exists(), "there is no README.md"
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    ran = 0
    for block in _blocks(readme):
        if block.language == "python":
            # empty lines in front, so that a traceback shows the line of README.md
            exec(compile("\n" * (block.line - 1) + block.text, str(readme), "exec"), namespace)
            ran += 1
        elif block.language in ("bash", "console"):
            for command in _commands(block):
                if command.startswith("pkmodel "):
                    _run_pkmodel(command, tmp_path)
                    ran += 1
    assert ran, "README.md shows nothing that runs"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = {
        word
        for block in _blocks(page)
        for command in _commands(block)
        if command.startswith("make ")
        for word in shlex.split(command, comments=True)[1:]
        if "=" not in word
    }
    shown |= set(re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8")))
    assert shown <= targets, f"{page.name} names make targets that are not there: {sorted(shown - targets)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [t.partition("#")[0] for t in LINK.findall(text) if not re.match(r"[a-z]+:|#", t)]
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert not missing, f"{page.relative_to(ROOT)} links to what is not there: {missing}"
