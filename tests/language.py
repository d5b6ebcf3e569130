"""Find words and phrases that the section "Language" of CONTRIBUTING.md rules out.

``python -m tests.language [PATH ...]`` lists the places, with ``--rule NAME`` those of one rule.
"""

from __future__ import annotations

import argparse
import ast
import io
import keyword
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
FOLDERS = ('.ci', 'changes', 'contrib', 'docs', 'findings', 'geventnode', 'tests')
#: These files name the words.
OWN_FILES = ('tests/language.py', 'tests/test_language.py')
SUFFIXES = ('.gz', '.pyc', '.webp')

#: Regular expressions by rule. They match words in names, too.
WORDS = {
    'pronoun': r'who(ever|m|se)?|(some|no|any|every)body|(some|any)one|whatever|whichever',
    'tell': r'(is|are|was|were|be|been|being|get|gets|got) (not )?told|tells',
    'place': r'in (the )?place of|in front of|of ours|none of (its|their) business',
    'number': r'so many (seconds|bytes|times|words|characters|requests|connections|bits|digits)(?! that)',
    'switch': r'(never|may|might) switch(es)?',
    'posture': (
        r'stands? (in|on|at|here|beside|behind|before|still|there|for itself|between|open)|stood'
        r'|(is|are|was|were|has|have|had) gone'
    ),
    'id': r'test_([234][a-e]\d*|im\d+|s[rv]\d+)|sr\d+|2d4|demand \d+|row [A-Z]\d+|the reference document',
    'glossary': (
        r'InputBudget|Spender|ReadyLine|Outbox|RequestOutcome|ToldConnection|ConnectionLines|HeaderAwaited|ProxyGate'
        r'|OfferedSocket|InputSink|Inflow|Outflow|Intake|FramedRequest|ResponseReceiver|own ways|peek after'
        r'|message rests|max discard|fresh greenlets'
    ),
}
#: Names that the glossary has replaced; as English words they can be right.
NAMES = {
    '_Taken', '_Unasked', '_carry_out', '_claim', '_cut_short', '_feeder', '_fell_short', '_give_up', '_pump_rests',
    '_settle', '_tell', '_tunings', '_whole', 'DECISIVE', 'MEANINGLESS', 'PARKED', 'application_returned',
    'check_hub', 'forget_after_fork', 'hand_out', 'hand_over', 'hurry', 'introduce', 'may_go_on', 'patient',
    'put_both', 'put_gathered', 'put_soon', 'set_sink', 'special_request', 'surrender', 'turn_away', 'unheard',
}  # fmt: skip
SUMMARY_WORDS = 12
#: A summary that begins with one of these is not an imperative.
NOT_IMPERATIVE = {
    'a', 'an', 'as', 'every', 'for', 'how', 'if', 'it', 'its', 'one', 'that', 'the', 'there', 'this', 'those', 'to',
    'what', 'when', 'where', 'whether', 'which', 'with',
}  # fmt: skip

#: Its beginning, its end, and the token.
Token = tuple[int, int, tokenize.TokenInfo]
#: The beginning of a place, the rule, and the words.
Found = tuple[int, str, str]


class Place(NamedTuple):
    """A place that breaks a rule."""

    path: str
    line: int
    rule: str
    text: str


def _compiled(pattern: str, space: str = r'[ _\n]+') -> re.Pattern[str]:
    """Return an expression for whole words, also within names, and for phrases over several lines."""
    return re.compile(rf'(?<![A-Za-z])(?:{pattern.replace(" ", space)})(?![A-Za-z])', re.IGNORECASE)


_words = {rule: _compiled(pattern) for rule, pattern in WORDS.items()}
#: ``WHAT`` can be the placeholder of an argument.
_what = re.compile(r'\b[Ww]hat\b')
#: Any of the words, in small letters, with anything but a word between two of them: a string can have a prefix. An
#: expression that ignores the case takes three times as long.
_candidate = re.compile(
    _compiled('|'.join([*WORDS.values(), 'what', *NAMES]).lower(), space=r'(?:[^a-z]|[a-z]{1,2}(?=["\']))+').pattern
)
#: The beginning of a comment or a docstring.
_head = re.compile(r'(What|Who|Whatever|Whoever|Whichever)\b')
_code_span = re.compile(r'``.+?``|`[^`\n]+`', re.DOTALL)


def files() -> Iterator[Path]:
    """Yield the text files of the project."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob('*')):
            if path.is_file() and path.suffix not in SUFFIXES and 'node_modules' not in path.parts:
                yield path
    yield from sorted(path for path in ROOT.glob('*.*') if path.suffix in ('.md', '.py', '.toml', '.ini'))


def places(prefixes: tuple[str, ...] = ('',)) -> Iterator[Place]:
    """Yield the places in the files that begin with one of ``prefixes``, relative to the project."""
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(prefixes) and name not in OWN_FILES:
            yield from check(name, path.read_text('utf-8'))


def check(name: str, text: str) -> Iterator[Place]:
    """Yield the places in ``text``, the content of the file ``name``."""
    python = name.endswith('.py')
    inside = name.startswith('geventnode/')
    found: list[Found] = []
    # Tokens and trees take time, and most files have none of the words.
    suspect = _candidate.search(text.lower()) is not None
    if suspect:
        found += _in_tokens(text) if python else _in_prose(_prose(text))
    if python and (suspect or inside):
        found += _in_docstrings(text, inside)
    for start, rule, words in sorted(found):
        yield Place(name, text.count('\n', 0, start) + 1, rule, ' '.join(words.split()))


def _in_prose(prose: str) -> list[Found]:
    """Return the places in a text that is not a program."""
    return _ruled_out(prose) + _whats(prose)


def _ruled_out(prose: str) -> list[Found]:
    return [(match.start(), rule, match[0]) for rule, word in _words.items() for match in word.finditer(prose)]


def _whats(prose: str) -> list[Found]:
    return [(match.start(), 'what', match[0]) for match in _what.finditer(prose)]


def _prose(text: str) -> str:
    """Return ``text`` without spans of code, which can quote any word."""
    return _code_span.sub(lambda span: re.sub(r'\S', '\0', span[0]), text)


def _prose_of_python(text: str, tokens: list[Token]) -> str:
    """Return ``text`` without quotes and comment signs, so that a sentence can continue over them."""
    pieces = list(text)
    for start, end, token in tokens:
        if token.type == tokenize.COMMENT:
            sign = re.match(r'#:?', token.string).end()
            pieces[start : start + sign] = ' ' * sign
        elif token.type == tokenize.STRING:
            sign = re.match(r'\w*(\'{3}|"{3}|.)', token.string)
            length = len(sign[1])
            pieces[start : start + sign.end()] = ' ' * sign.end()
            pieces[end - length : end] = ' ' * length
        elif tokenize.tok_name[token.type] in ('FSTRING_START', 'FSTRING_END'):
            pieces[start:end] = ' ' * (end - start)
        elif token.type == tokenize.OP or keyword.iskeyword(token.string):
            pieces[start:end] = '\0' * (end - start)
    return ''.join(pieces)


def _without_names(prose: str, tokens: list[Token]) -> str:
    """Return the prose of a Python file without its names."""
    pieces = list(prose)
    for start, end, token in tokens:
        if token.type == tokenize.NAME:
            pieces[start:end] = '\0' * (end - start)
    return ''.join(pieces)


def _tokens(text: str) -> Iterator[Token]:
    """Yield each token with the positions of its beginning and its end in ``text``."""
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        yield lines[token.start[0] - 1] + token.start[1], lines[token.end[0] - 1] + token.end[1], token


def _in_tokens(text: str) -> list[Found]:
    """Return the places in names, comments and strings of a Python file."""
    tokens = list(_tokens(text))
    prose = _prose_of_python(text, tokens)
    found = _ruled_out(prose) + _whats(_without_names(prose, tokens))
    previous = -1
    for start, _, token in tokens:
        if token.type == tokenize.NAME and token.string in NAMES:
            found.append((start, 'glossary', token.string))
        elif token.type == tokenize.COMMENT:
            comment = token.string.lstrip('#: ')
            continues = previous == token.start[0] - 1 and token.line.lstrip().startswith('#')
            if not continues and _head.match(comment):
                found.append((start, 'head', comment[:40]))
            previous = token.start[0]
    return found


def _in_docstrings(text: str, inside: bool) -> list[Found]:
    """Return the places at the beginning of docstrings; summaries are checked only ``inside`` the package."""
    found = []
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    for node in _documented(ast.parse(text)):
        docstring = ast.get_docstring(node)
        if docstring:
            rule = _rule_of_docstring(node, docstring, inside)
            if rule is not None:
                found.append((lines[node.body[0].lineno - 1], rule, docstring[:60]))
    return found


def _documented(tree: ast.Module) -> Iterator[ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield the nodes that can have a docstring; they are among the statements, so that expressions are left out."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
            yield node
        for field in ('body', 'orelse', 'finalbody', 'handlers', 'cases'):
            waiting.extend(getattr(node, field, ()))


def _rule_of_docstring(node: ast.AST, docstring: str, inside: bool) -> str | None:
    """Return the rule that a docstring breaks, or None. Summaries are checked only ``inside`` the package."""
    if _head.match(docstring):
        return 'head'
    if not inside:
        return None
    paragraph = docstring.split('\n\n')[0]
    summary = re.split(r'(?<=[.:?!])\s', paragraph)[0]
    if len(summary.split()) > SUMMARY_WORDS:
        return 'summary'
    is_property = any('property' in ast.unparse(each) for each in getattr(node, 'decorator_list', ()))
    if isinstance(node, ast.FunctionDef) and not is_property:
        return 'imperative' if summary.split()[0].lower() in NOT_IMPERATIVE else None
    return None


def main() -> None:
    """List the places on standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('paths', nargs='*', metavar='PATH')
    parser.add_argument('--rule')
    options = parser.parse_args()
    found = places(tuple(options.paths) or ('',))
    shown = [place for place in found if options.rule in (None, place.rule)]
    for place in shown:
        print(f'{place.path}:{place.line}: {place.rule}: {place.text}')
    for rule, number in sorted(Counter(place.rule for place in shown).items()):
        print(f'{number:6} {rule}')


if __name__ == '__main__':
    main()
