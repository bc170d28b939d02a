"""The pages and the shipped files: sockd accepts their YAML, and what they name exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pem_files

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
FENCED = re.compile(r"^( *)```yaml\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
# A module that a page shows above the file which names it.
MODULE = re.compile(r"^`([\w/-]+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
THIRD_PARTY = "writing-a-protocol.md"  # needs what it builds: tests/end_to_end/test_third_party.py


def shown() -> list[tuple[str, str]]:
    """Each block of YAML on a page, with the place where it begins."""
    found = []
    for page in PAGES:
        if page.name == THIRD_PARTY:
            continue
        text = page.read_text()
        for match in FENCED.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append((f"{page.relative_to(ROOT)}:{line}", match[2]))
    return found


def check(file: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sockd", "check", "-c", str(file)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("file", sorted(ROOT.glob("config/**/*.yaml")), ids=lambda path: path.name)
def test_shipped_files_are_accepted(file: Path, tmp_path: Path) -> None:
    """`sockd check` finds nothing wrong with the files in config/."""
    one = check(file, tmp_path)
    assert (one.returncode, one.stderr) == (0, "")


@pytest.mark.parametrize(("place", "text"), [pytest.param(*one, id=one[0]) for one in shown()])
def test_shown_files_are_accepted(place: str, text: str, tmp_path: Path) -> None:
    """A reader may copy any YAML from the pages; a part of a file shows where it belongs."""
    file = tmp_path / "shown.yaml"
    if not re.search(r"^endpoints:", text, re.MULTILINE):
        text += "\nendpoints: {any: {listen: unix://any, protocol: echo}}\n"
    file.write_text(text)
    for name, module in MODULE.findall((ROOT / place.partition(":")[0]).read_text()):
        (tmp_path / name).write_text(module)
    for name in re.findall(r"[\w-]+\.(?:pem|key)\b", text):
        data = pem_files.FIXTURES["key" if name.endswith(".key") else "chain"]()
        pem_files.write(tmp_path, name, data)
    one = check(file, tmp_path)
    assert (one.returncode, one.stderr) == (0, ""), place


def test_the_schema_is_fresh() -> None:
    """config/sockd.schema.json is what `sockd schema` prints; `make docs` writes it."""
    one = subprocess.run(
        [sys.executable, "-m", "sockd", "schema"], capture_output=True, text=True, timeout=60, check=True
    )
    assert (ROOT / "config" / "sockd.schema.json").read_text() == one.stdout


def test_the_example_names_its_schema() -> None:
    """Editors find the schema in the directory of the file."""
    first = (ROOT / "config" / "sockd.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=sockd.schema.json"


def test_architecture_names_every_folder() -> None:
    """The table of folders has each folder of sockd, and each module next to them, in one row."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+(?:/|\.py))` \|", text, re.MULTILINE)
    folders = {f"{path.parent.name}/" for path in (ROOT / "sockd").glob("*/__init__.py")}
    modules = {path.name for path in (ROOT / "sockd").glob("*.py") if not path.name.startswith("__")}
    assert sorted(rows) == sorted(folders | modules)


def test_architecture_names_what_there_is() -> None:
    """Every file and folder that the page names exists, in sockd or in the checkout."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`([a-z_/]+(?:/|\.py))`", text):
        place = "protocols/" if name in ("echo/", "chat/", "line_log/", "factory/") else ""
        place = "transports/" if name in ("datagrams/", "sockets/") else place
        assert (ROOT / "sockd" / place / name).exists() or (ROOT / name).exists(), name


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    """Each relative link of a page names a file that exists, and a heading of it where it names one."""
    for page in {*PAGES, *ROOT.glob("*.md")}:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page.read_text()):
            file = (page.parent / target).resolve() if target else page
            assert file.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in slugs(file), f"{page.name}: {target}#{anchor}"


def test_the_first_page_leads_to_all_others() -> None:
    """docs/README.md links every page of docs/."""
    first = ROOT / "docs" / "README.md"
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", first.read_text())
    found = {(first.parent / target).resolve() for target in linked}
    assert set((ROOT / "docs").glob("**/*.md")) - {first} <= found


def test_every_event_of_the_log_is_explained() -> None:
    """The table of docs/log.md has each event that sockd names in its source."""
    _, _, table = (ROOT / "docs" / "log.md").read_text().partition("## Events")
    explained = {name for cell in re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE)
                 for name in re.findall(r"`([^`]+)`", cell)}  # fmt: skip
    named = {
        name
        for module in (ROOT / "sockd").glob("**/*.py")
        for name in re.findall(r"\bevent(?:=|\": )\"([^\"]+)\"", module.read_text())
    }
    assert named <= explained
