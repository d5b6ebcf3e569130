"""The language of the project: words and phrases that are ruled out, and how they are found."""

from __future__ import annotations

import pytest

from tests import language
from tests.language import check

FOUND = {
    'pronoun': ['# ask whoever has it', 'def test_who_waits(): pass', 'x = "of somebody\'s"', '# everybody', '# whose'],
    'tell': ['# it is told', 'def test_is_told(): pass', '# the timer tells'],
    'place': ['# in front of it', '# in\n# front of it', 'x = ("in the place "\n     "of it")', '# one of ours'],
    'number': ['# after so many seconds'],
    'switch': ['# Never switches.', '# it may switch'],
    'posture': ['# what stands in the file', '# the client has gone'],
    'id': ['# sr13', '# demand 12', 'def test_demand_12_length(): pass', '# see the reference document', '# 2d4'],
    'glossary': ['class Outbox: pass', '# an Outbox', 'self.put_soon(1)', '# the input, see `InputBudget`'],
    'what': ['# of what is left', 'x = "for what it is"', '# See what happens.'],
    'head': ['# What the kernel has.', '#: Whoever waits.', '"""What it is."""', 'def f():\n    """Who waits."""'],
    'summary': [f'def f():\n    """Return {"very " * 12}much."""'],
    'imperative': ['def f():\n    """The number of connections."""', 'def f():\n    """Whether it waits."""'],
}
INNOCENT = [
    '# the whole, whole-some and somebodys',
    '# tell them apart',
    '# the front of the queue, and a place of its own',
    '# so many seconds that it overflows',
    '# the greenlet switches to the hub',
    '# it stands for a byte',
    '# sr, 2d, and no demand',
    '# put soon',
    'what = 1\nfor what in (what, what): pass',
    'def f():\n    """Return the number of connections."""',
    f'def f():\n    """Return the number.\n\n    It is {"very " * 20}large.\n    """',
    f'def f():\n    """Return the number. It is {"very " * 20}large."""',
    'class A:\n    @property\n    def f(self):\n        """The number of connections."""',
    'in_front, of = 1, 2\nin_front(of)',
]


def rules_of(text: str, name: str = 'geventnode/example.py') -> list[str]:
    """Return the rules that ``text`` breaks."""
    return [place.rule for place in check(name, text)]


def test_every_rule_has_an_example() -> None:
    assert set(FOUND) == {*language.WORDS, 'what', 'head', 'summary', 'imperative'}


@pytest.mark.parametrize(('rule', 'text'), [(rule, text) for rule, texts in FOUND.items() for text in texts])
def test_rule_finds_its_example(rule: str, text: str) -> None:
    assert rule in rules_of(text)


@pytest.mark.parametrize('text', INNOCENT)
def test_innocent_text_breaks_no_rule(text: str) -> None:
    assert rules_of(text) == []


def test_pages_are_checked_outside_of_code() -> None:
    assert rules_of('Not `who`, nor ``so many bytes``.', 'docs/page.rst') == []
    assert rules_of('A client\nwho waits, and one in front\nof it.', 'docs/page.rst') == ['pronoun', 'place']


def test_place_has_its_line() -> None:
    assert list(check('docs/page.rst', 'One.\n\nA client who waits.\n')) == [
        ('docs/page.rst', 3, 'pronoun', 'who'),
    ]


def test_summaries_are_checked_in_the_package_only() -> None:
    assert rules_of('def test():\n    """A long one."""', 'tests/test_example.py') == []


def test_every_file_follows_the_rules() -> None:
    assert list(language.places()) == []
