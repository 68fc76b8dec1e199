"""The caller's bearer token. Tokens are never logged nor part of an error."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import time
from collections.abc import Awaitable, Callable
from typing import Union

from .errors import FieldViolation, MortiseError

# Renewed this long before `exp`, so that a token does not expire on its way.
_RENEW_BEFORE_S = 5.0
# A JWT in a header; more is a wrong file.
_MAX_FILE_BYTES = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+")
_CORRELATION_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class TokenFile:
    """A token in a file that something else keeps fresh, such as a projected service-account token of Kubernetes.

    The file is read again whenever it has changed, so a rotation needs no restart.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._seen: tuple[int, int, int] | None = None
        self._token = ""

    def read(self) -> str:
        """The token as the file has it now."""
        try:
            found = os.stat(self._path)
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                with open(self._path, "rb") as file:
                    data = file.read(_MAX_FILE_BYTES + 1)
                if len(data) > _MAX_FILE_BYTES:
                    raise MortiseError("UNAUTHENTICATED", f"{self._path} is longer than a token can be")
                self._token = data.decode("ascii").strip()
                self._seen = seen
        except (OSError, UnicodeDecodeError) as error:
            raise MortiseError("UNAUTHENTICATED", f"the token file {self._path} cannot be read") from error
        return self._token

    def forget(self) -> None:
        """Has the file read again with the next call."""
        self._seen = None


#: A token, a file of one, or a function that gets one (for `AsyncClient` it may be a coroutine function). A function is
#: called when a token is needed; its answer is kept until shortly before the token's `exp`.
TokenSource = Union[str, TokenFile, Callable[[], Union[str, Awaitable[str]]]]


def expiry_of(token: str) -> float | None:
    """`exp` of a JWT in seconds since 1970; None where it cannot be read: then only TOKEN_EXPIRED tells."""
    parts = token.split(".")
    if len(parts) < 2:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    exp = claims.get("exp") if isinstance(claims, dict) else None
    return float(exp) if isinstance(exp, (int, float)) else None


class HeldToken:
    """The last token that a function gave."""

    def __init__(self) -> None:
        self._token: str | None = None
        self._expires_at: float | None = None

    def get(self) -> str | None:
        """The token, unless there is none or it is about to expire."""
        if self._expires_at is not None and time.time() >= self._expires_at - _RENEW_BEFORE_S:
            return None
        return self._token

    def put(self, token: str) -> None:
        self._token = token
        self._expires_at = expiry_of(token)

    def drop(self, token: str | None) -> None:
        """Forgets this token, if it is still the one that is held."""
        if self._token == token:
            self._token = None


def call_metadata(token: str | None, correlation_id: str) -> tuple[tuple[str, str], ...]:
    """What goes beside a call, checked here because grpc's own errors quote the value that they refuse."""
    if _CORRELATION_ID.fullmatch(correlation_id) is None:
        what = "1 to 64 of A-Z a-z 0-9 . _ -"
        raise MortiseError(
            "INVALID_REQUEST", f"correlation_id: {what}", fields=[FieldViolation("correlation_id", what)]
        )
    if token is None:
        return (("x-correlation-id", correlation_id),)
    if _TOKEN.fullmatch(token) is None:
        raise MortiseError(
            "UNAUTHENTICATED", "the token has characters that a header cannot carry", correlation_id=correlation_id
        )
    return (("x-correlation-id", correlation_id), ("authorization", f"Bearer {token}"))
