"""What the package index shows, and what the wheel holds."""

import re
import runpy
import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace

import pytest
import yaml

import freerun
from tests.pages import ROOT

README = """\
See [the docs](docs/README.md#terms), [below](#below) and [a paper](https://arxiv.org/abs/1).

![A picture](docs/images/report.png)

```sh
[not](a/link)
```
"""


@pytest.fixture
def hook(monkeypatch):
    """The module that writes the description, without the library that builds packages."""
    plugin = ModuleType("interface")
    plugin.MetadataHookInterface = object
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", plugin)
    for name in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    return SimpleNamespace(**runpy.run_path(str(ROOT / "hatch_build.py")))


def test_links_lead_to_the_tag_in_the_repository(hook):
    found = hook.describe(README, "https://host.example/o/freerun/", "1.2.3")
    blob = "https://host.example/o/freerun/blob/v1.2.3/docs/README.md#terms"
    raw = "https://host.example/o/freerun/raw/v1.2.3/docs/images/report.png"
    wanted = README.replace("docs/README.md#terms", blob).replace("docs/images/report.png", raw)
    assert found == wanted


def test_without_an_address_the_text_of_links_remains(hook):
    found = hook.describe(README, None, "1.2.3")
    first = "See the docs, [below](#below) and [a paper](https://arxiv.org/abs/1)."
    assert found == f"{first}\n\n```sh\n[not](a/link)\n```\n"


@pytest.mark.parametrize("address", [None, "https://host.example/o/freerun"])
def test_the_description_has_no_relative_link(hook, address):
    builder = hook.ReadmeHook()
    builder.root = ROOT
    described = {"version": "1.2.3", "urls": {"Repository": address} if address else {}}
    builder.update(described)
    text = described["readme"]["text"]
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?ms)^```.*?^```$", "", text))
    assert len(links) > 10
    assert all(link.startswith(("https://", "#")) for link in links)


def test_between_two_releases_links_lead_to_the_main_branch(hook):
    found = hook.describe(README, "https://host.example/o/freerun", "1.2.4.dev3+g0a1b2c3")
    assert "https://host.example/o/freerun/blob/main/docs/README.md#terms" in found


def test_the_citation_is_of_the_newest_version_in_the_changelog():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["license"] == "Apache-2.0"
    versions = re.findall(r"(?m)^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    assert citation["version"] == versions[0]


def test_the_version_is_that_of_the_installed_package():
    assert freerun.__version__ == metadata.version("freerun")
