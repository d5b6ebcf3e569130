"""Our parser against h11 and Node: what they disagree about stands in the table of ``contrib/fuzz/README.md``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip('h11', reason='h11 is not installed; it is in the extra "test"')

from contrib.fuzz import differential
from contrib.fuzz.differential import Disagreement, cases, compare, differences, explained, mutations
from contrib.fuzz.peers import H11, Asked, Node, Ours, Seen, Verdict

#: Mutations are always the same ones: what other seeds find is for whoever runs the program.
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


def test_h11() -> None:
    assert unexplained(H11()) == []


def test_node(node: Node) -> None:
    assert unexplained(node) == []


# -- the comparison -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('data', 'asked', 'served'),
    [
        (GET, Asked('request'), 1),
        (2 * GET, Asked('request'), 2),
        (GET + b'\x00', Asked('request'), 1),
        (
            b'PUT / HTTP/1.1\r\nHost:a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA:b\r\n\r\n',
            Asked('request'),
            1,
        ),
        (b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab', Asked('request'), 0),
        (b'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nother', Asked('request'), 1),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab', Asked('response'), 1),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n', Asked('response', 'HEAD'), 1),
        (b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 \r\n\r\nuntil the end', Asked('response'), 1),
        (b'HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nother', Asked('response', upgrade=True), 1),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab', Asked('response'), 0),
    ],
)
def test_all_agree(node: Node, data: bytes, asked: Asked, served: int) -> None:
    verdicts = [peer.judge(data, asked) for peer in (Ours(), H11(), node)]
    assert [len(verdict.messages) for verdict in verdicts] == 3 * [served]
    assert verdicts[0].messages == verdicts[1].messages == verdicts[2].messages


def seen(**different: Any) -> Seen:
    return Seen(
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
        (Verdict((seen(),), None), Verdict((seen(),), 'bad'), None),
        (Verdict((), 'bad'), Verdict((), 'worse'), None),
        (Verdict((), 'bad'), Verdict((seen(),), None), ('we', 'bad')),
        (Verdict((seen(),), None), Verdict((), 'worse'), ('they', 'worse')),
        (Verdict((seen(), seen()), None), Verdict((seen(),), None), ('they', 'nothing more is read')),
        (Verdict((seen(),), None), Verdict((seen(body=b'x'),), None), ('nobody', 'other body')),
        (Verdict((seen(),), None), Verdict((seen(version='1.0'),), None), ('nobody', 'other version')),
        (Verdict((seen(),), None), Verdict((seen(headers=(('host', 'b'),)),), None), ('nobody', 'other value of host')),
        (Verdict((seen(),), None), Verdict((seen(headers=()),), None), ('nobody', 'other headers')),
        (
            Verdict((seen(start=('CONNECT', 'a:1')),), None),
            Verdict((seen(start=('CONNECT', 'b:1')),), None),
            ('nobody', 'other start of CONNECT'),
        ),
    ],
)
def test_compare(ours: Verdict, theirs: Verdict, found: tuple[str, str] | None) -> None:
    assert compare('h11', ours, theirs) == (None if found is None else Disagreement('h11', *found))


def test_table() -> None:
    rows = re.findall(r'^\| (?:h11|Node) \|.*\|$', differential.README.read_text('utf-8'), re.MULTILINE)
    assert len(rows) == len(explained())
    for row in rows:
        _, who, reason, source, why = (cell.strip() for cell in row.strip('|').split('|'))
        assert who in ('we', 'they', 'nobody')
        assert reason.startswith('`')
        assert re.fullmatch(r'91(10|12), [0-9.]+(; 91(10|12), [0-9.]+)?', source), row
        assert why


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert differential.main(['--inputs', '20', '--without', 'node']) == 0
    assert '0 of them unexplained' in capsys.readouterr().out
    monkeypatch.setattr(differential, 'explained', lambda: set())
    assert differential.main(['--inputs', '0', '--without', 'node']) == 1
    assert 'UNEXPLAINED' in capsys.readouterr().out
