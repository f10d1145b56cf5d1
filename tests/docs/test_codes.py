"""The tables of codes in the documents are those of the program."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.codes import codes

DOCS = Path(__file__).parent.parent.parent / "docs"
NEVER_OF_A_FILE = {
    # of the way: the queue is held
    "server_unreachable", "dns_failed", "tls_failed", "proxy_failed", "slow_down", "misconfigured",
    "lookup_unusable", "files_failing", "token_rejected", "token_missing", "token_unreadable",
    "token_unusable", "login_rejected", "login_unusable", "password_unreadable",
    # of a start
    "ca_file_unusable", "client_cert_unusable", "proxy_unusable",
    # answers to a command
    "needs_force", "no_queue", "not_now", "unknown_id",
}  # fmt: skip
OF_A_START = {"ca_file_unusable", "client_cert_unusable", "proxy_unusable"}


def table(name: str) -> set[str]:
    """The codes in the first column of the table below `<!-- codes: NAME -->`, wherever it stands."""
    for document in sorted(DOCS.glob("*.md")):
        _, found, rest = document.read_text(encoding="utf-8").partition(f"<!-- codes: {name} -->\n")
        if found:
            rows = rest.split("\n\n")[0].splitlines()[2:]
            return {re.match(r"\| `([a-z_]+)` \|", row)[1] for row in rows}  # type: ignore[index]
    raise AssertionError(f"no document has a table of codes for {name}")


def test_every_code_of_a_failed_file_is_documented() -> None:
    """Whoever finds a code in a .error.txt finds it in the documents, and none there is out of date."""
    of_files = codes("sheets", "intake", "delivery", "queue/store.py", "queue/control.py") - NEVER_OF_A_FILE
    assert table("files") == of_files


def test_every_code_of_a_hold_is_documented() -> None:
    """The same for what `status` says of a queue that is held."""
    assert table("holds") <= codes("delivery")
    assert table("holds") | table("files") | OF_A_START >= codes("delivery")


def test_codes_that_are_excepted_exist() -> None:
    """The exceptions above are none that the program has dropped."""
    assert codes() >= NEVER_OF_A_FILE
