"""What programs read: JSON, in whatever encoding the output has."""

from __future__ import annotations

import json
import sys
from typing import Any


def as_text(document: Any, indent: int | None = None) -> str:
    """JSON; letters that an output other than UTF-8 may not know are escaped, which means the same."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return json.dumps(document, ensure_ascii=encoding != "utf8", indent=indent)
