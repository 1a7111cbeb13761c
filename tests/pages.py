"""Parse the documentation pages: sections, blocks of code, commands, links."""

import functools
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml
from conftest import ROOT

PAGES = ["README.md", "CONTRIBUTING.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
YOUR_DATA = "docs/your-data.md"


class Block(NamedTuple):
    """A fenced block of code, with the anchor of the section that contains it."""

    section: str
    language: str
    text: str


@functools.cache
def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@functools.cache
def blocks(page: str) -> list[Block]:
    parsed: list[Block] = []
    lines: list[str] = []
    section, language = "", None
    for line in text(page).splitlines():
        if line.startswith("```") and language is None:
            language, lines = line[3:], []
        elif line.startswith("```"):
            parsed.append(Block(section, str(language), "\n".join(lines)))
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            section = anchor(line.lstrip("# "))
    assert language is None, f"{page} has a block without an end"
    return parsed


@functools.cache
def prose(page: str) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


def spans(page: str) -> list[str]:
    """The `code spans` in the prose."""
    return re.findall(r"`([^`]+)`", " ".join(prose(page).split()))


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


@functools.cache
def anchors(page: str) -> set[str]:
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)}


def commands(page: str, section: str | None = None) -> list[str]:
    """The lines of the page's shell blocks, without comments."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "sh" and section in (None, block.section):
            lines += [re.sub(r"(^|\s+)#.*", "", line) for line in block.text.splitlines()]
    return [line for line in lines if line]


def split_environment(command: str) -> tuple[list[str], dict[str, str]]:
    """The arguments of a command, and the variables that are set before it."""
    arguments = shlex.split(command)
    environment: dict[str, str] = {}
    while arguments and re.match(r"[A-Z_]+=", arguments[0]):
        name, _, value = arguments.pop(0).partition("=")
        environment[name] = value
    return arguments, environment


# --- docs/your-data.md: the files that a section tells the reader to write ----------------------


def confs(section: str) -> dict[str, str]:
    """Their contents by path. The path is the first line of a YAML block, as a comment."""
    contents: dict[str, str] = {}
    for block in blocks(YOUR_DATA):
        if block.section == section and block.language == "yaml":
            path, _, content = block.text.partition("\n")
            contents[path.removeprefix("# ")] = content + "\n"
    return contents


def write_confs(section: str, root: Path) -> list[str]:
    """Write them below `root` and add the lines of params.yaml; returns the paths of new files.

    A team may have followed the page, so files and lines of the same names are replaced.
    """
    contents = confs(section)
    add_lines(root, yaml.safe_load(contents.pop("params.yaml")))
    for path, content in contents.items():
        (root / path).write_text(content)
    return list(contents)


def add_lines(root: Path, lines: Mapping[str, Mapping[str, str | Mapping[str, str]]]) -> None:
    """Append entries to `datasets` and `models` of params.yaml, in place of the same names."""
    path = root / "params.yaml"
    content = path.read_text()
    for key, entries in lines.items():
        match = re.search(rf"^{key}:.*\n((?:  .*\n)*)", content, re.MULTILINE)
        assert match, f"params.yaml has no block `{key}`"
        kept = [line for line in match[1].splitlines() if line.split(":")[0].strip() not in entries]
        added = [f"  {name}: {_flow(value)}" for name, value in entries.items()]
        block = "".join(f"{line}\n" for line in [*kept, *added])
        content = content[: match.start(1)] + block + content[match.end(1) :]
    path.write_text(content)


def _flow(value: str | Mapping[str, str]) -> str:
    """A kind, or the words of a model, as params.yaml writes them."""
    if isinstance(value, str):
        return value
    return "{" + ", ".join(f"{key}: {name}" for key, name in value.items()) + "}"
