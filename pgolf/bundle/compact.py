"""Python text with no more than its syntax tree needs: fewer spaces, lines and brackets."""

from __future__ import annotations

import io
import keyword
import tokenize
from collections.abc import Iterator

Token = tokenize.TokenInfo
WORDS = (tokenize.NAME, tokenize.NUMBER, tokenize.STRING)
SKIPPED = (tokenize.NL, tokenize.COMMENT, tokenize.ENCODING, tokenize.ENDMARKER)
# Within brackets these give them a meaning, so that they stay.
BINDING = {"for", "lambda", "yield", ":="}
KEYWORDS = set(keyword.kwlist)  # none of which is the prefix of a text
COMPOUND = {
    *("if", "elif", "else", "for", "while", "with", "try", "except", "finally", "def", "class"),
    *("@", "async"),
}


def compact(source: str) -> str:
    """The same program; one space indents a block, `;` joins statements, no brackets for tuples."""
    lines: list[tuple[int, str, bool]] = []  # depth, text, whether it may be joined
    for depth, tokens in _statements(source):
        text = _joined(_without_brackets(tokens))
        is_simple = tokens[0].string not in COMPOUND and not text.endswith(":")
        before = lines[-1] if lines else None
        if before and is_simple and before[2] and before[0] == depth:
            lines[-1] = (depth, f"{before[1]};{text}", True)
        else:
            lines.append((depth, text, is_simple))
    return "".join(f"{' ' * depth}{text}\n" for depth, text in _on_one_line(lines))


def _on_one_line(lines: list[tuple[int, str, bool]]) -> Iterator[tuple[int, str]]:
    """A block of simple statements behind its head."""
    index = 0
    while index < len(lines):
        depth, text, is_simple = lines[index]
        following = lines[index + 1] if index + 1 < len(lines) else None
        after = lines[index + 2][0] if index + 2 < len(lines) else 0
        if not is_simple and following and following[2] and following[0] > depth >= after:
            yield depth, text + following[1]
            index += 1
        else:
            yield depth, text
        index += 1


def _statements(source: str) -> Iterator[tuple[int, list[Token]]]:
    """The tokens of each logical line and how deep it is indented."""
    depth, line = 0, list[Token]()
    for token in _tokens(source):
        if token.type == tokenize.INDENT:
            depth += 1
        elif token.type == tokenize.DEDENT:
            depth -= 1
        elif token.type == tokenize.NEWLINE:
            yield depth, line
            line = []
        elif token.type not in SKIPPED:
            line.append(token)


def _tokens(source: str) -> Iterator[Token]:
    """Python's tokens; f-strings, which have several since Python 3.12, are one as before."""
    lines, level, start = source.splitlines(keepends=True), 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":
            start = token.start if level == 0 else start
            level += 1
        elif name == "FSTRING_END":
            level -= 1
            if level == 0:
                text = "".join(lines[start[0] - 1 : token.end[0]])
                end = len(text) - len(lines[token.end[0] - 1]) + token.end[1]
                yield Token(tokenize.STRING, text[start[1] : end], start, token.end, token.line)
        elif level == 0:
            yield token


def _without_brackets(tokens: list[Token]) -> list[Token]:
    """`x = (a, b)` and `return (a, b)` as `x = a, b` and `return a, b`."""
    first = next((i + 1 for i, token in enumerate(tokens) if _takes_tuple(tokens, i)), len(tokens))
    if tokens[first:] and tokens[first].string == "(" and tokens[-1].string == ")":
        inside, level, has_comma = tokens[first + 1 : -1], 0, False
        for token in inside:
            level += (token.string in "([{") - (token.string in ")]}")
            has_comma |= level == 0 and token.string == ","
            if level < 0 or (level == 0 and token.string in BINDING):
                return tokens
        if has_comma:
            return [*tokens[:first], *inside]
    return tokens


def _takes_tuple(tokens: list[Token], index: int) -> bool:
    """Whether a tuple may follow: `return`, or the last `=` of an assignment without a type."""
    if tokens[index].string == "return":
        return index == 0
    before = tokens[:index]
    is_outside = sum((t.string in "([{") - (t.string in ")]}") for t in before) == 0
    is_typed = any(t.string == ":" for t in before) and tokens[0].string not in ("(", "[")
    return tokens[index].string == "=" and is_outside and not is_typed


def _joined(tokens: list[Token]) -> str:
    """Text with spaces only where two words would become one."""
    text = ""
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before and before.type in WORDS and token.type in WORDS:
            ends_text = before.type == tokenize.STRING and token.type != tokenize.STRING
            begins_text = token.string[0] in "'\"" and before.string in KEYWORDS
            text += "" if ends_text or begins_text else " "
        text += token.string
    return text
