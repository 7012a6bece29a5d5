"""What the site does with pages that are also read in the repository.

The pages of docs/ link to each other and to the README, examples and sources as files of the
repository. Here those links become links of the site: the README is its first page, and sources
that are linked to get a page each, so that no address of a repository is needed. Pages of the API
are made for the entries `api/MODULE.md` of the navigation in mkdocs.yml. Equations become MathML,
and anchors are named as in the repository, so that one link works in both.
"""

from __future__ import annotations

import html
import json
import posixpath
import re
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "docs/README.md": "contents.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
"""Files of the repository that have another name in the site; other pages of docs/ keep theirs."""
LANGUAGES = {".py": "python", ".sh": "sh", ".yaml": "yaml", ".md": "markdown"}

_CODE = re.compile(r"^```.*?^```$|``.+?``|`[^`\n]+`", re.M | re.S)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_NOTE = re.compile(r"^<!--.*?-->\n", re.M | re.S)
_PICTURE = re.compile(r'(<img [^>]*?src="([^"]+)"[^>]*>)')
_MATH = re.compile(r"\$\$(.+?)\$\$|(?<![\w$])\$([^$\n]+)\$(?![\w$])", re.S)


def slug(heading: str, separator: str) -> str:
    """Return the anchor of a heading as forges name it."""
    plain = re.sub(r"[^\w\- ]", "", html.unescape(re.sub(r"<[^>]+>", "", heading)).lower())
    return plain.strip().replace(" ", separator)


def on_config(config: MkDocsConfig) -> None:
    """Take addresses from the package, and name anchors as in the repository."""
    urls = dict(url.split(", ") for url in metadata("freerun").get_all("Project-URL", []))
    config.repo_url, config.site_url = urls.get("Repository"), urls.get("Documentation")
    config.repo_name = "Repository"
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of docs/."""
    files.remove(files.src_uris["README.md"])
    for name, uri in PAGES.items():
        if (ROOT / name).exists():
            files.append(File.generated(config, uri, content=(ROOT / name).read_text("utf-8")))
    for uri in entries(config.nav):
        if uri.startswith("api/") and uri not in files.src_uris:
            module = uri.removeprefix("api/").removesuffix(".md")
            files.append(File.generated(config, uri, content=f"# {module}\n\n::: {module}\n"))
    for file in list(files.documentation_pages()):
        for link in _LINK.findall(_CODE.sub("", file.content_string)):
            name = resolve(link[1].partition("#")[0], file.src_uri)
            uri = uri_of(name) if name else ""
            if uri.startswith("source/") and uri not in files.src_uris:
                files.append(File.generated(config, uri, content=show(name)))
    return files


def entries(nav: Any) -> list[str]:
    """Return the pages of a navigation, in order."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [uri for part in parts for uri in entries(part)]


def resolve(link: str, uri: str) -> str:
    """Return the file of the repository that a link on a page leads to; "" if it is none."""
    if not link or ":" in link:
        return ""
    names = {uri: name for name, uri in PAGES.items()}
    own = uri[7:-3] if uri.startswith("source/") else f"docs/{uri}"
    folder = posixpath.dirname(names.get(uri, own))
    name = posixpath.normpath(posixpath.join(folder, link))
    return posixpath.join(name, "README.md") if (ROOT / name).is_dir() else name


def uri_of(name: str) -> str:
    """Return the page or file of the site for a file of the repository."""
    if name in PAGES:
        return PAGES[name]
    return name.removeprefix("docs/") if name.startswith("docs/") else f"source/{name}.md"


def show(name: str) -> str:
    """Return a page with a file of the repository."""
    if name.endswith(".ipynb"):
        return show_notebook(name)
    language = LANGUAGES.get(Path(name).suffix, "text")
    code = (ROOT / name).read_text("utf-8").rstrip("\n")
    return f"---\nsearch: {{exclude: true}}\n---\n\n# {name}\n\n~~~~~{language}\n{code}\n~~~~~\n"


def show_notebook(name: str) -> str:
    """Return a page with the cells of a notebook."""
    parts = []
    for cell in json.loads((ROOT / name).read_text("utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to pages of the site, and keep equations until the page is rendered."""
    uri, formulas = page.file.src_uri, []
    if uri.startswith("source/") and not uri.endswith(".ipynb.md"):
        return markdown

    def lead(match: re.Match[str]) -> str:
        path, sharp, anchor = match[2].partition("#")
        name = resolve(path, uri)
        target = posixpath.relpath(uri_of(name), posixpath.dirname(uri) or ".") if name else path
        return f"{match[1]}{target}{sharp}{anchor}{match[3]}"

    def keep(match: re.Match[str]) -> str:
        display = "block" if match[1] else "inline"
        formulas.append(convert(match[1] or match[2], display=display))
        return f"formula{len(formulas) - 1}formula"

    def prose(text: str) -> str:
        return _LINK.sub(lead, _MATH.sub(keep, _NOTE.sub("", text)))

    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts += [prose(markdown[end : code.start()]), code[0]]
        end = code.end()
    page.meta["formulas"] = formulas
    return "".join([*parts, prose(markdown[end:])])


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put equations back, and open pictures in their full size: a wide one has small print."""
    content = _PICTURE.sub(r'<a href="\2">\1</a>', content)
    for number, formula in enumerate(page.meta.get("formulas", [])):
        content = content.replace(f"formula{number}formula", formula)
    return content
