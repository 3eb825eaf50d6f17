"""The search language of files.list, the part that programs use: names, parents, types, times, trash, and/or/not."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.drive_emulator.answers import Refusal

_TOKEN = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|(<=|>=|!=|[=<>(){}])|([A-Za-z]+))", re.DOTALL)
_TEXT = {"name", "mimeType", "fullText"}
_TIMES = {"modifiedTime", "createdTime", "viewedByMeTime", "sharedWithMeTime"}
_FLAGS = {"trashed", "starred", "sharedWithMe"}
_PEOPLE = {"owners", "writers", "readers"}


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison: `field op value`, as in `name = 'a'`; for `'x' in parents` field is parents and value x."""

    field: str
    op: str
    value: str


Node = Term | tuple[str, list["Node"]]
"""A term, or ("and" | "or" | "not", parts)."""


def parse(text: str) -> Node:
    """Read a query. Raises Refusal."""
    tokens: list[tuple[str, str]] = []
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            raise bad_query()
        quoted, sign, word = found.groups()
        if quoted is not None:
            tokens.append(("text", re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)))
        else:
            tokens.append(("sign", sign) if sign else ("word", word))
        at = found.end()
    reader = _Reader(tokens)
    node = reader.either()
    if reader.tokens:
        raise bad_query()
    return node


def bad_query() -> Refusal:
    """What Drive says to a query it cannot read."""
    return Refusal(400, "invalid", "Invalid Value", location="q")


class _Reader:
    """Recursive descent; `and` binds tighter than `or`, `not` tightest."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens

    def take(self, kind: str = "", text: str = "") -> str:
        if not self.tokens or (kind and self.tokens[0][0] != kind) or (text and self.tokens[0][1] != text):
            raise bad_query()
        return self.tokens.pop(0)[1]

    def sees(self, text: str) -> bool:
        return bool(self.tokens) and self.tokens[0][0] != "text" and self.tokens[0][1] == text

    def either(self) -> Node:
        return self._row("or", self.both)

    def both(self) -> Node:
        return self._row("and", self.one)

    def _row(self, word: str, inner: Callable[[], Node]) -> Node:
        parts = [inner()]
        while self.sees(word):
            self.take()
            parts.append(inner())
        return parts[0] if len(parts) == 1 else (word, parts)

    def one(self) -> Node:
        if self.sees("not"):
            self.take()
            return ("not", [self.one()])
        if self.sees("("):
            self.take()
            node = self.either()
            self.take("sign", ")")
            return node
        if self.tokens and self.tokens[0][0] == "text":
            value = self.take()
            self.take("word", "in")
            field = self.take("word")
            if field != "parents" and field not in _PEOPLE:
                raise bad_query()
            return Term(field, "in", value)
        return self._comparison()

    def _comparison(self) -> Term:
        field = self.take("word")
        if field in _FLAGS:
            if not (self.sees("=") or self.sees("!=")):
                if field == "sharedWithMe":
                    return Term(field, "=", "true")
                raise bad_query()
            op, value = self.take(), self.take("word")
            if value not in ("true", "false"):
                raise bad_query()
            return Term(field, op, value)
        op = self.take()
        value = self.take("text")
        known = {"name": {"=", "!=", "contains"}, "mimeType": {"=", "!=", "contains"}, "fullText": {"contains"}}
        if (field in _TEXT and op in known[field]) or (field in _TIMES and op in {"=", "!=", "<", ">", "<=", ">="}):
            return Term(field, op, value)
        raise bad_query()


def holds(node: Node, test: Callable[[Term], bool]) -> bool:
    """Whether a file meets the query; `test` answers for one term."""
    if isinstance(node, Term):
        return test(node)
    word, parts = node
    if word == "not":
        return not holds(parts[0], test)
    return (all if word == "and" else any)(holds(part, test) for part in parts)


def parents_asked(node: Node) -> list[str]:
    """The folders a query names in `'x' in parents`, in order."""
    if isinstance(node, Term):
        return [node.value] if node.field == "parents" else []
    return [folder for part in node[1] for folder in parents_asked(part)]


def name_matches(op: str, wanted: str, name: str) -> bool:
    """Names are compared without case; `contains` is a prefix of a word, of which Drive looks at 26 characters."""
    if op == "contains":
        words = [*re.findall(r"\w+", name.casefold()), name.casefold()]
        return any(word.startswith(wanted.casefold()[:26]) for word in words)
    return (wanted.casefold() == name.casefold()) == (op == "=")


def compares(op: str, left: float, right: float) -> bool:
    """`left op right`."""
    return {
        "=": left == right,
        "!=": left != right,
        "<": left < right,
        ">": left > right,
        "<=": left <= right,
        ">=": left >= right,
    }[op]
