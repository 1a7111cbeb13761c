"""The syntax trees of the package's files, each parsed once for all tests."""

import ast
import functools
from pathlib import Path


@functools.cache
def tree(path: Path) -> ast.Module:
    """Tests share a tree and must not change it."""
    return ast.parse(path.read_text(encoding="utf-8"))
