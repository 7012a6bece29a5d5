"""Pages of the documentation, as tests read them: blocks of code, tables and links.

A comment before a block or a table says what it is for:

    <!-- file: NAME -->         the block is a file that later commands read
    <!-- parsed only: WHY -->   commands of the block are checked, but not run
    <!-- settings: CLASS -->    the table lists the fields of a dataclass and their defaults
    <!-- metrics: CLASS -->     the table lists what a method logs
    <!-- packages -->           the table lists what src/freerun holds
    <!-- results -->            the table lists the keys of results.json
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_NOTE = r"(?:^<!-- (?P<purpose>[a-z ]+?)(?:: (?P<what>[^>]*?))? -->\n+)?"
_BLOCK = re.compile(_NOTE + r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
_TABLE = re.compile(_NOTE + r"(?P<rows>(?:^\|.*\|\n)+)", re.M)
_LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.M)


@dataclass(frozen=True)
class Block:
    """Code on a page, and the line it begins at."""

    language: str
    body: str
    line: int
    purpose: str | None
    what: str | None


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page):
    """The blocks of code of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(
            match["language"],
            match["body"],
            text[: match.start("language")].count("\n") + 1,
            match["purpose"],
            match["what"],
        )
        for match in _BLOCK.finditer(text)
    ]
    assert 2 * len(found) == len(re.findall(r"^\s*```", text, re.M)), "a block cannot be read"
    return found


def tables(page, purpose):
    """The tables of a page with this purpose: what they are about, and their rows as cells."""
    found = []
    for match in _TABLE.finditer(page.read_text(encoding="utf-8")):
        if match["purpose"] == purpose:
            _, _, *rows = match["rows"].strip().split("\n")
            cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
            found.append((match["what"], cells))
    return found


def links(page):
    """Where a page leads to, but for other sites."""
    prose = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [link for link in _LINK.findall(prose) if not link.startswith(("http://", "https://"))]


def anchors(page):
    """The headings of a page, as links name them."""
    prose = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose))
    return {heading.strip().replace(" ", "-") for heading in plain}


def commands(body):
    """The commands of a block for a shell: lines, joined where a backslash ends them."""
    joined = body.replace("\\\n", " ").split("\n")
    return [line.strip() for line in joined if line.strip() and not line.startswith("#")]


def sessions(body):
    """The commands of a block of a terminal, and what each prints."""
    parts = re.split(r"^\$ ", body, flags=re.M)
    assert not parts[0], "the block must begin with a command"
    return [tuple(part.partition("\n")[::2]) for part in parts[1:]]
