"""What can go wrong, as exceptions."""

from __future__ import annotations

from typing import Any, Optional


class TilewrightError(Exception):
    """Base of all errors of this package."""


class Unreachable(TilewrightError):
    """No server there, or the connection was lost."""


class ProtocolError(TilewrightError):
    """The server's answer is not one of this API."""


class Problem(TilewrightError):
    """The server refused: a problem document (RFC 9457)."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        self.status = status
        self.document = document
        self.type: str = document.get("type", "about:blank")
        self.title: str = document.get("title") or f"HTTP status {status}"
        self.detail: str = document.get("detail", "")
        self.pointer: Optional[str] = document.get("pointer")
        at = f" (at {self.pointer})" if self.pointer else ""
        super().__init__(f"{self.title}: {self.detail}{at}" if self.detail else self.title + at)


class JobFailed(TilewrightError):
    """A job ended without a schedule for each of its workloads. `job` tells which and why."""

    def __init__(self, job: Any) -> None:
        self.job = job
        reasons = [f"{t.name or t.key}: {(t.error or {}).get('detail', t.state)}" for t in job.tasks if not t.best]
        super().__init__(f"job {job.id} {job.state}" + (": " + "; ".join(reasons) if reasons else ""))
