"""The parser against h11 and Node: every disagreement is in the table of ``contrib/fuzz/README.md``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip('h11', reason='h11 is not installed; it is in the extra "test"')

from contrib.fuzz import differential
from contrib.fuzz.differential import Disagreement, cases, compare, differences, explained, mutations
from contrib.fuzz.peers import H11, Context, Geventnode, Node, ParsedMessage, Verdict

#: The mutations are the same in each run; ``contrib/fuzz/differential.py`` tries other seeds.
MUTATIONS, SEED = 500, '1'
GET = b'GET / HTTP/1.1\r\nHost: a\r\n\r\n'


@pytest.fixture(scope='module')
def node() -> Iterator[Node]:
    if shutil.which('node') is None:
        pytest.skip('Node is not installed')
    peer = Node()
    yield peer
    peer.close()


def unexplained(peer: Any) -> list[Any]:
    inputs = [*cases(), *mutations(MUTATIONS, SEED)]
    known = explained()
    return [each for each in differences(inputs, [peer]) if each[0] not in known]


def test_disagreements_with_h11_are_explained() -> None:
    assert unexplained(H11()) == []


def test_disagreements_with_node_are_explained(node: Node) -> None:
    assert unexplained(node) == []


# -- the comparison -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('data', 'context', 'served'),
    [
        (GET, Context('request'), 1),
        (2 * GET, Context('request'), 2),
        (GET + b'\x00', Context('request'), 1),
        (
            b'PUT / HTTP/1.1\r\nHost:a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA:b\r\n\r\n',
            Context('request'),
            1,
        ),
        (b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab', Context('request'), 0),
        (b'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nother', Context('request'), 1),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab', Context('response'), 1),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n', Context('response', 'HEAD'), 1),
        (b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 \r\n\r\nuntil the end', Context('response'), 1),
        (b'HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nother', Context('response', upgrade=True), 1),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab', Context('response'), 0),
    ],
)
def test_verdicts_agree(node: Node, data: bytes, context: Context, served: int) -> None:
    verdicts = [peer.judge(data, context) for peer in (Geventnode(), H11(), node)]
    assert [len(verdict.messages) for verdict in verdicts] == 3 * [served]
    assert verdicts[0].messages == verdicts[1].messages == verdicts[2].messages


def message(**different: Any) -> ParsedMessage:
    return ParsedMessage(
        **{
            'start': ('GET', '/'),
            'version': '1.1',
            'headers': (('host', 'a'),),
            'body': b'',
            'trailers': (),
            **different,
        }
    )


@pytest.mark.parametrize(
    ('ours', 'theirs', 'found'),
    [
        (Verdict((message(),), None), Verdict((message(),), 'bad'), None),
        (Verdict((), 'bad'), Verdict((), 'worse'), None),
        (Verdict((), 'bad'), Verdict((message(),), None), ('geventnode', 'bad')),
        (Verdict((message(),), None), Verdict((), 'worse'), ('h11', 'worse')),
        (
            Verdict((message(), message()), None),
            Verdict((message(),), None),
            ('h11', 'nothing more is read'),
        ),
        (Verdict((message(),), None), Verdict((message(body=b'x'),), None), ('neither', 'other body')),
        (
            Verdict((message(),), None),
            Verdict((message(version='1.0'),), None),
            ('neither', 'other version'),
        ),
        (
            Verdict((message(),), None),
            Verdict((message(headers=(('host', 'b'),)),), None),
            ('neither', 'other value of host'),
        ),
        (
            Verdict((message(),), None),
            Verdict((message(headers=()),), None),
            ('neither', 'other headers'),
        ),
        (
            Verdict((message(start=('CONNECT', 'a:1')),), None),
            Verdict((message(start=('CONNECT', 'b:1')),), None),
            ('neither', 'other start of CONNECT'),
        ),
    ],
)
def test_first_difference_is_found(ours: Verdict, theirs: Verdict, found: tuple[str, str] | None) -> None:
    assert compare('h11', ours, theirs) == (None if found is None else Disagreement('h11', *found))


def test_table_has_a_reason_for_each_row() -> None:
    rows = re.findall(r'^\| (?:h11|Node) \|.*\|$', differential.README.read_text('utf-8'), re.MULTILINE)
    assert len(rows) == len(explained())
    for row in rows:
        peer, refused_by, reason, source, why = (cell.strip() for cell in row.strip('|').split('|'))
        assert refused_by in ('geventnode', peer, 'neither')
        assert reason.startswith('`')
        assert re.fullmatch(r'91(10|12), [0-9.]+(; 91(10|12), [0-9.]+)?', source), row
        assert why


def test_unexplained_disagreement_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert differential.main(['--inputs', '20', '--without', 'node']) == 0
    assert '0 of them unexplained' in capsys.readouterr().out
    monkeypatch.setattr(differential, 'explained', lambda: set())
    assert differential.main(['--inputs', '0', '--without', 'node']) == 1
    assert 'UNEXPLAINED' in capsys.readouterr().out
