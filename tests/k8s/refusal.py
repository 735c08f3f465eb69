"""An answer of the API server that is no success."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """An answer that is no success: a Status, or plain text where ``reason`` is empty."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.text = "" if reason else message
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
            **({"details": details} if details else {}),
        }
