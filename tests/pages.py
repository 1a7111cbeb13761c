"""The pages for people, taken apart: sections, blocks of code, commands, links."""

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from conftest import ROOT

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
OWN = "docs/your-data.md"


class Block(NamedTuple):
    """A fenced block: the section that it stands in, its language, its text."""

    section: str
    language: str
    text: str


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchor(heading: str) -> str:
    """What a heading is linked as."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def blocks(page: str) -> list[Block]:
    found, section, language, lines = [], "", None, []
    for line in text(page).splitlines():
        if line.startswith("```"):
            if language is not None:
                found.append(Block(section, language, "\n".join(lines)))
            language, lines = (line[3:], []) if language is None else (None, [])
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            section = anchor(line.lstrip("# "))
    assert language is None, f"{page} has a block that does not end"
    return found


def prose(page: str) -> str:
    """The page without its blocks."""
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


def spans(page: str) -> list[str]:
    """What stands in `backticks` in the prose."""
    return re.findall(r"`([^`]+)`", " ".join(prose(page).split()))


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: str) -> set[str]:
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)}


def commands(page: str, section: str | None = None) -> list[str]:
    """The lines of the page's shell blocks, without their comments."""
    shell = [one for one in blocks(page) if one.language == "sh" and section in (None, one.section)]
    lines = [re.sub(r"(^|\s+)#.*", "", line) for one in shell for line in one.text.splitlines()]
    return [line for line in lines if line]


def without_environment(command: str) -> tuple[list[str], list[str]]:
    """The words of a command, and what is set in the environment before it."""
    words = shlex.split(command)
    count = next((n for n, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
    return words[count:], words[:count]


def confs(section: str) -> dict[str, str]:
    """The files that a section of the page on one's own data gives, by their path, which is its first line."""
    found = {}
    for block in blocks(OWN):
        first, _, rest = block.text.partition("\n")
        if block.section == section and block.language == "yaml":
            found[first.removeprefix("# ")] = rest + "\n"
    return found


def write_own(section: str, root: Path) -> list[str]:
    """Write what a section says to write, and add its lines to params.yaml; the new files by their path."""
    files = confs(section)
    add_lines(root, yaml.safe_load(files.pop("params.yaml")))
    for file, content in files.items():
        assert not (root / file).exists()
        (root / file).write_text(content)
    return list(files)


def add_lines(root: Path, lines: dict[str, Any]) -> None:
    """Add data sets and models to params.yaml, where a person would."""
    path = root / "params.yaml"
    for key, values in lines.items():
        new = [f"- {one}" for one in values] if isinstance(values, list) else []
        new = new or [
            f"{name}: {{{', '.join(f'{k}: {v}' for k, v in of.items())}}}"
            for name, of in values.items()
        ]
        content, found = re.subn(
            rf"^{key}:.*\n",
            "".join([r"\g<0>", *(f"  {line}\n" for line in new)]),
            path.read_text(),
            flags=re.MULTILINE,
        )
        assert found == 1
        path.write_text(content)
