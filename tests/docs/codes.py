"""Every code that the program gives a Problem, read from its source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import omrwatchd
from omrwatchd import model

PACKAGE = Path(omrwatchd.__file__).parent
_CODE = re.compile(r"[a-z]+(_[a-z]+)*")
_CLASSES = ("Problem", "ConfigProblem")


def codes(*rooms: str) -> set[str]:
    """The codes in these modules or packages, e.g. ``intake`` or ``queue/store.py``; all without any."""
    found: set[str] = set()
    for room in rooms or (".",):
        place = PACKAGE / room
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            if "receiver" not in file.relative_to(PACKAGE).parts:
                found |= _codes_in(ast.parse(file.read_text(encoding="utf-8")), file)
    return found


def _codes_in(tree: ast.Module, file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CLASSES:
            first = node.args[0]
            if isinstance(first, ast.Constant):
                found.add(str(first.value))
            else:
                found |= _named_elsewhere(first, tree, file)
    return found


def _named_elsewhere(first: ast.expr, tree: ast.Module, file: Path) -> set[str]:
    """Other Problems' codes and rows' are handed on; else the model names it, or a table of (code, words)."""
    if isinstance(first, ast.Attribute) and first.attr in ("code", "error_code"):
        return set()
    if isinstance(first, ast.Subscript) and ast.unparse(first.slice) == "'error_code'":
        return set()
    assert isinstance(first, ast.Name), f"{file}: a Problem's code can't be told: {ast.unparse(first)}"
    if isinstance(constant := getattr(model, first.id, None), str):
        return {constant}
    tables = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    found = {
        str(pair.elts[0].value)
        for table in tables
        if isinstance(table, ast.Dict)
        for pair in table.values
        if isinstance(pair, ast.Tuple) and isinstance(pair.elts[0], ast.Constant)
    }
    assert found, f"{file}: no table has the codes of {ast.unparse(first)}"
    assert all(_CODE.fullmatch(code) for code in found)
    return found
