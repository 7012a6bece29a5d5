"""The description on a package index: the README, whose links lead to the repository.

A package index shows the README without the files it links to. If `[project.urls]` in
pyproject.toml has a Repository, links become addresses there; otherwise their text remains, and
pictures are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")
_CODE = re.compile(r"(^```.*?^```$)", re.M | re.S)


def describe(readme: str, repository: str | None, version: str) -> str:
    """Return a README with absolute links, or without those to files.

    Args:
        readme: its text, in Markdown.
        repository: the address of the repository, as of GitHub or GitLab.
        version: the version, whose tag links lead to; of one between two releases, they lead to
            the main branch.
    """
    branch = "main" if "dev" in version else f"v{version}"

    def lead(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        if repository is None:
            return "" if picture else text
        kind = "raw" if picture else "blob"
        return f"{picture}[{text}]({repository.rstrip('/')}/{kind}/{branch}/{target})"

    parts = _CODE.split(readme)
    parts[::2] = [_LINK.sub(lead, part) for part in parts[::2]]
    return re.sub(r"\n{3,}", "\n\n", "".join(parts))


class ReadmeHook(MetadataHookInterface):
    """Sets the description of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description of the package."""
        readme = (Path(self.root) / "README.md").read_text("utf-8")
        urls = {name.lower(): url for name, url in metadata.get("urls", {}).items()}
        text = describe(readme, urls.get("repository"), metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
