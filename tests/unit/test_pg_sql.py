"""Every SQL text of ours names what it uses with its schema: in an app's database a bare name may be the app's.

This walks over all Python of the repository but tests and the demo, which is an app itself.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("_modules", "saltern", "_states", "lab", "bin", "bench")
STATEMENT = re.compile(r"\s*(SELECT|WITH\s+\w+\s+AS|INSERT|UPDATE|DELETE|TABLE|VALUES|CALL|DO|COPY|MERGE|EXPLAIN)\s+\S")
TOKEN = re.compile(
    r"""'(?:[^']|'')*'|%s|%\(\w+\)s|[A-Za-z_]\w*(?:\.(?:\w+|"\w+"))*|"[^"]*"|\d+|OPERATOR\([^)]*\)|[-+*/<>=~!@#%^&|?`]+|::|\S""",
    re.VERBOSE,
)
#: Words that stand before a parenthesis and are no functions, and types that the grammar itself knows.
SYNTAX = {"ANY", "ARRAY", "AS", "CAST", "COALESCE", "EXISTS", "FROM", "JOIN", "NOT", "AND", "OR", "ON", "OPERATOR"}
SYNTAX |= {"WHERE", "LATERAL", "THEN", "ELSE", "WHEN", "SELECT", "BY", "VALUES", "LIMIT"}
TYPES = {"bigint", "boolean", "int", "integer", "interval", "numeric"}
#: They look operators up by name without saying so.
BANNED = {"IN", "LIKE", "ILIKE", "SIMILAR", "BETWEEN", "USING", "NATURAL", "DISTINCT", "NULLIF", "OVERLAPS", "SOME"}
ENDS_FROM = {"WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "UNION", "ON", "EXCEPT", "INTERSECT", "SELECT"}


def faults(sql: str) -> list[str]:
    """What in a text would be looked up in the search path."""
    tokens = TOKEN.findall(sql.replace("OPERATOR(", "OPERATOR ("))
    tables = {name for name, *_ in re.findall(r"(\w+) AS \(", sql)} | set(re.findall(r"(\w+) AS \(", sql))
    found, stack, item = [], [""], [False]
    for index, token in enumerate(tokens):
        before, after = tokens[index - 1] if index else "", tokens[index + 1] if index + 1 < len(tokens) else ""
        word = token.upper()
        if stack[-1] == "OPERATOR" and token not in "()":
            found += (
                [] if token == "pg_catalog." or re.fullmatch(r"pg_catalog|\.|[-+*/<>=~!@#%^&|?]+", token) else [token]
            )
            continue
        if token == "(":
            stack.append(before.upper())
            item.append(False)
        elif token == ")":
            stack.pop()
            item.pop()
        elif word in BANNED or token == "::":
            found.append(token)
        elif word == "CASE" and after.upper() != "WHEN":
            found.append("CASE x WHEN")
        elif re.fullmatch(r"[-+*/<>=~!@#^&|?`%]+", token) and not (token == "*" and before.upper() in ("(", "SELECT")):
            found.append(token)
        elif re.match(r"[A-Za-z_]", token):
            known = token.startswith(("pg_catalog.", "public.")) or token in tables
            if after == "(" and word not in SYNTAX and not token.startswith("pg_catalog.") and before.upper() != "AS":
                found.append(f"{token}()")
            if before.upper() == "AS" and stack[-1] == "CAST" and not (known or token in TYPES):
                found.append(f"type {token}")
            starts = before.upper() in ("FROM", "JOIN", "TABLE", "INTO", "UPDATE") or (before == "," and item[-1])
            if starts and not known and word not in ("LATERAL", "ON", "ONLY"):
                found.append(f"table {token}")
        item[-1] = True if word in ("FROM", "JOIN") else item[-1] and word not in ENDS_FROM
    return found


def text_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or " 'x' " for part in node.values)
    return None


def statements() -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and (path.suffix == ".py" or path.read_bytes()[:30].startswith(b"#!/usr/bin/env python")):
                tree = ast.parse(path.read_text())
                inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
                for node in ast.walk(tree):
                    text = text_of(node) if id(node) not in inner else None
                    if text and STATEMENT.match(text):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def test_every_name_has_its_schema() -> None:
    found = list(statements())
    assert len(found) > 15, "the walk finds nothing any more"
    assert {where: faults(text) for where, text in found if faults(text)} == {}


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("SELECT count(*) FROM pg_catalog.pg_class", "count()"),
        ("SELECT 1 FROM pg_class", "table pg_class"),
        ("SELECT 1 FROM pg_catalog.pg_class c, pg_roles r", "table pg_roles"),
        ("SELECT 1 FROM pg_catalog.pg_class JOIN pg_roles r ON true", "table pg_roles"),
        ("SELECT 1 FROM pg_catalog.pg_class c WHERE c.relname !~ 'x'", "!~"),
        ("SELECT 1 FROM pg_catalog.pg_class c WHERE c.relname OPERATOR(public.=) 'x'", "public"),
        ("SELECT 1 WHERE 1 IN (1)", "IN"),
        ("SELECT a FROM pg_catalog.pg_class WHERE a IS DISTINCT FROM 1", "DISTINCT"),
        ("SELECT CASE a WHEN 1 THEN 2 END", "CASE x WHEN"),
        ("SELECT 'x'::text", "::"),
        ("SELECT CAST('x' AS regclass)", "type regclass"),
        ("SELECT a + 1", "+"),
    ],
)
def test_the_reader_sees_each_kind_of_bare_name(sql: str, fault: str) -> None:
    assert any(fault in one for one in faults(sql)), faults(sql)


def test_the_reader_lets_full_names_be() -> None:
    assert faults("SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) %s") == []
