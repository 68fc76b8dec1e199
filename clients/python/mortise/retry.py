"""When a failed call is made again, and after how long.

A call that could act twice is never repeated by the client, whatever the error says.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import MortiseError


@dataclass(frozen=True)
class Retry:
    """How often and how patiently safe calls are repeated. All waits end at the call's deadline.

    Ten attempts span about nine seconds: an agent that restarts, or a token process that comes back, is waited out
    within the default deadline of ten.
    """

    #: Attempts in all, the first included; 1 switches repeats off.
    max_attempts: int = 10
    #: Seconds before the second attempt; doubles with each.
    initial_delay: float = 0.05
    #: Longest wait in seconds between two attempts, unless the agent asks for a longer one.
    max_delay: float = 2.0

    def delay_before(self, attempt: int, error: MortiseError) -> float:
        """Seconds before attempt number `attempt` + 1: exponential, with jitter over the upper half."""
        step = min(self.max_delay, self.initial_delay * 2.0 ** (attempt - 1))
        return max(step * random.uniform(0.5, 1), (error.retry_after_ms or 0) / 1000)


NO_RETRY = Retry(max_attempts=1)

# rpcs that are not simply safe: the others are idempotent by the comments of the .proto files.
_SAFE: dict[str, bool | Callable[[Any], bool]] = {
    "UpdateKey": lambda request: bool(request.revision),  # else it could undo somebody's later change
    "RotateKey": lambda request: bool(request.expected_version),  # else it could rotate twice
    "RotateTenantKek": False,  # a run that ended before the connection broke would be followed by a second one
    "ImportKey": False,  # the import key is used up by the first one
}


def is_safe_to_repeat(rpc: str, request: Any) -> bool:
    """May this call be made again when nobody knows whether the first one acted?"""
    rule = _SAFE.get(rpc, True)
    return rule(request) if callable(rule) else rule
