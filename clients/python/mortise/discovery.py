"""Where the agent is: the path given, else `MORTISE_SOCKET`, else the path that packages use."""

from __future__ import annotations

import os

DEFAULT_SOCKET = "/run/mortise/agent.sock"


def socket_path(given: str | None) -> str:
    """Absolute path of the agent's socket."""
    return os.path.abspath(given or os.environ.get("MORTISE_SOCKET") or DEFAULT_SOCKET)
