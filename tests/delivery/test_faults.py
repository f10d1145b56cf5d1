from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omrwatchd.delivery.chunks import Chunk
from omrwatchd.delivery.faults import RETRIED_CODES, Kind, Lost, judge_answer, judge_lost, retry_after
from omrwatchd.delivery.wire import Answer, prepare_chunk
from omrwatchd.model import Metadata

FIRST, MIDDLE, FINAL = (
    prepare_chunk("a.zip", Chunk(index, 3, 0, 1), "u" if index else None, Metadata(), "b", "k")
    for index in range(3)
)
HTML = ({"content-type": "text/html"}, b"<html><h1>Error</h1></html>")
JSON = ({"content-type": "application/json"}, b'{"message": "no such task"}')
NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("status", "kind"),
    [(status, Kind.CHUNK) for status in (408, 499, 500, 502, 503, 504, 520, 522, 524)]
    + [(status, Kind.OUTAGE) for status in (521, 523, 525, 526, 530)]
    + [(429, Kind.SLOW_DOWN), (401, Kind.CREDENTIALS), (413, Kind.SIZE)]
    + [(404, Kind.SESSION), (410, Kind.SESSION)]
    + [(status, Kind.MISCONFIGURED) for status in (301, 302, 307, 308, 403, 400, 200)],
)
def test_html_answer_to_a_middle_chunk(status: int, kind: Kind) -> None:
    """What a proxy's page means, status by status: no file is failed by one."""
    assert judge_answer(Answer(status, *HTML), MIDDLE, sent_whole=True, now=NOW).kind is kind


def test_retried_codes_are_all_there_are() -> None:
    """Their counters begin at 0, so that an alert sees the first burst."""
    judged = [judge_lost(how, "", MIDDLE, sent_whole=False) for how in Lost]
    answers = [Answer(status, *content) for status in range(100, 600) for content in (HTML, JSON, ({}, b""))]
    judged += [judge_answer(answer, MIDDLE, sent_whole=True, now=NOW) for answer in answers]
    assert {fault.problem.code for fault in judged if fault.kind is Kind.CHUNK} == set(RETRIED_CODES)


@pytest.mark.parametrize("status", [400, 403, 409, 415, 422])
def test_servers_own_refusal_fails_the_file_with_its_words(status: int) -> None:
    """A refusal in the server's own JSON is about this file."""
    fault = judge_answer(Answer(status, *JSON), MIDDLE, sent_whole=True, now=NOW)
    assert fault.kind is Kind.FILE
    assert "no such task" in fault.problem.summary


@pytest.mark.parametrize("status", [404, 405, 411, 451])
def test_refusals_that_are_about_no_file_hold_the_queue(status: int) -> None:
    """Even in JSON: another server's word for a wrong address would fail one file after the other."""
    assert judge_answer(Answer(status, *JSON), FIRST, sent_whole=True, now=NOW).kind is Kind.MISCONFIGURED


@pytest.mark.parametrize("value", ["0", "-5", "Sun, 06 Nov 1994 08:00:00 GMT", "soon", "9" * 400])
def test_pause_is_neither_nothing_nor_endless(value: str) -> None:
    """A pause costs no attempt, so a server that asks for none would be asked without end or rest."""
    fault = judge_answer(Answer(429, {"retry-after": value}, b""), MIDDLE, sent_whole=True, now=NOW)
    assert fault.kind is Kind.SLOW_DOWN
    assert fault.wait is not None
    assert 1 <= fault.wait <= 3600


@pytest.mark.parametrize("status", [408, 413, 500, 503, 522, 530])
def test_retry_after_on_any_error_is_a_pause(status: int) -> None:
    """Whoever names a time is waited for, whatever the status; no attempt is spent."""
    answer = Answer(status, HTML[0] | {"retry-after": "120"}, HTML[1])
    fault = judge_answer(answer, MIDDLE, sent_whole=True, now=NOW)
    assert (fault.kind, fault.wait) == (Kind.SLOW_DOWN, 120)


@pytest.mark.parametrize("status", [502, 504, 520, 524])
def test_retry_after_does_not_hide_a_lost_last_answer(status: int) -> None:
    """A gateway that names a time all the same had sent the final chunk on: waiting makes nothing sure."""
    answer = Answer(status, HTML[0] | {"retry-after": "30"}, HTML[1])
    assert judge_answer(answer, FINAL, sent_whole=True, now=NOW).kind is Kind.UNKNOWN
    assert judge_answer(answer, FINAL, sent_whole=False, now=NOW).kind is Kind.SLOW_DOWN


def test_404_without_an_upload_id_is_a_wrong_address() -> None:
    """Chunk 0 has no session that could be forgotten: the address is wrong."""
    assert judge_answer(Answer(404, *JSON), FIRST, sent_whole=True, now=NOW).kind is Kind.MISCONFIGURED


@pytest.mark.parametrize("status", [502, 504, 520, 524])
def test_gateway_error_for_the_final_chunk_is_an_unknown_outcome(status: int) -> None:
    """Behind a gateway that gave up the server may have made the batch; not if the body was cut."""
    answer = Answer(status, *HTML)
    assert judge_answer(answer, FINAL, sent_whole=True, now=NOW).kind is Kind.UNKNOWN
    assert judge_answer(answer, FINAL, sent_whole=False, now=NOW).kind is Kind.CHUNK


@pytest.mark.parametrize("body", [b"<p>ok", b"not json", b"{}", b'{"upload_id": "u"}'])
def test_success_without_a_batch_id(body: bytes) -> None:
    """A 200 to the final chunk that names no batch may have made one; a web page is a wrong address."""
    fault = judge_answer(Answer(200, {}, body), FINAL, sent_whole=True, now=NOW)
    assert fault.kind is (Kind.MISCONFIGURED if body.startswith(b"<") else Kind.UNKNOWN)


@pytest.mark.parametrize("how", list(Lost))
def test_lost_requests(how: Lost) -> None:
    """No connection is an outage; a lost answer to the final chunk is unknown; the rest is tried again."""
    no_connection = how in (Lost.CONNECT, Lost.DNS, Lost.TLS, Lost.PROXY)
    expected = Kind.OUTAGE if no_connection else Kind.CHUNK
    assert judge_lost(how, "", MIDDLE, sent_whole=True).kind is expected
    assert judge_lost(how, "", FINAL, sent_whole=False).kind is expected
    final = judge_lost(how, "", FINAL, sent_whole=True).kind
    assert final is (Kind.OUTAGE if no_connection else Kind.UNKNOWN)


def test_retry_after_in_seconds_and_as_a_date() -> None:
    """Both forms of RFC 9110 are read, a past date is no wait, nonsense is none, an hour is the most."""

    def wait(value: str) -> float | None:
        return retry_after(Answer(429, {"retry-after": value}, b""), 784_111_770.0)

    assert wait("7") == 7
    assert wait("Sun, 06 Nov 1994 08:49:37 GMT") == 7
    assert wait("Sun, 06 Nov 1994 08:00:00 GMT") == 0
    assert wait("soon") is None
    assert wait("999999") == 3600


@given(
    status=st.integers(100, 599),
    body=st.binary(),
    retry=st.one_of(st.none(), st.text(max_size=40)),
    request=st.sampled_from([None, FIRST, MIDDLE, FINAL]),
    sent_whole=st.booleans(),
)
def test_every_answer_is_judged(status, body, retry, request, sent_whole) -> None:  # type: ignore[no-untyped-def]
    """No status, header or body escapes the table; what is said never spans lines."""
    headers = {} if retry is None else {"retry-after": retry}
    fault = judge_answer(Answer(status, headers, body), request, sent_whole=sent_whole, now=NOW)
    assert fault.problem.summary
    assert "\n" not in fault.problem.summary
    assert (fault.kind is Kind.UNKNOWN) <= (request is FINAL and sent_whole)
