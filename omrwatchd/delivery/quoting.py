"""A server or a proxy that says our token back to us: its words go on without it.

They reach the queue, the log, `status` and the text beside a failed ZIP.
"""

from __future__ import annotations

import functools
import re

HIDDEN = "***"
SHORTEST = 6
"""A shorter token could be part of any word."""


def without_token(token: str | None, words: str) -> str:
    """A text without the token."""
    return token_cut(token, words.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def token_cut(token: str | None, body: bytes) -> bytes:
    """An answer's body without the token, also where it is spelt as JSON allows."""
    if token is None or len(token) < SHORTEST:
        return body
    return _spellings(token).sub(HIDDEN.encode(), body)


@functools.lru_cache(maxsize=8)
def _spellings(token: str) -> re.Pattern[bytes]:
    r"""Each character may stand for itself, behind a backslash (`\/`), or as `\u002b` (RFC 8259, 7)."""
    return re.compile(
        b"".join(
            rb"(?:\\?" + re.escape(letter.encode()) + rb"|\\u(?i:%04x))" % ord(letter) for letter in token
        )
    )
