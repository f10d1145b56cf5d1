"""What a person is told when something is wrong: a sentence, and what to do about it."""

from __future__ import annotations


class Problem(Exception):
    """Something a person can understand and act on.

    The same words reach the command line, the log, ``status`` and the ``.error.txt`` file.

    Args:
        code: a stable snake_case name for machines, e.g. ``not_a_zip``.
        summary: one plain sentence that names the file or the setting.
        advice: what to do about it; may be empty.
    """

    def __init__(self, code: str, summary: str, advice: str = "") -> None:
        super().__init__(summary)
        self.code = code
        self.summary = summary
        self.advice = advice

    def sentence(self) -> str:
        """Summary and advice on one line, as the command line shows them."""
        return f"{self.summary} {self.advice}".strip()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Problem):
            return NotImplemented
        return (self.code, self.summary, self.advice) == (other.code, other.summary, other.advice)

    def __hash__(self) -> int:
        return hash((self.code, self.summary, self.advice))

    def __repr__(self) -> str:
        return f"Problem({self.code!r}, {self.summary!r}, {self.advice!r})"
