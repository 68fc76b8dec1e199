"""The one exception of the package, and how a failed call becomes one.

`code` is stable: programs branch on it, never on the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from ._messages import message_class

#: The same call may succeed later without anybody changing anything.
RETRYABLE_CODES = frozenset(
    {
        "POLICY_STALE",
        "POLICY_INVALID",
        "RATE_LIMITED",
        "HSM_BUSY",
        "HSM_UNAVAILABLE",
        "OVERLOADED",
        "AUDIT_UNAVAILABLE",
        "RECEIPT_PENDING",
        "STORE_UNAVAILABLE",
        "REGISTRY_UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "SHUTTING_DOWN",
        "AGENT_UNREACHABLE",
    }
)

#: Repeating the same call gives the same answer.
FINAL_CODES = frozenset(
    {
        "UNAUTHENTICATED",
        "TOKEN_EXPIRED",
        "TOKEN_REPLAYED",
        "PERMISSION_DENIED",
        "POLICY_DENIED",
        "ALGORITHM_FORBIDDEN",
        "FIPS_ONLY",
        "KEY_UNKNOWN",
        "KEY_EXISTS",
        "KEY_CONFLICT",
        "KEY_STATE",
        "KEY_LIMIT",
        "INVALID_CIPHERTEXT",
        "SIGNATURE_INVALID",
        "INVALID_REQUEST",
        "TOO_LARGE",
        "OPENING_REFUSED",
        "HSM_UNSUPPORTED",
        "AUDIT_CORRUPT",
        "RECORD_UNKNOWN",
        "CANCELLED",
        "UNIMPLEMENTED",
        "INTERNAL",
    }
)

#: All codes: the agent's (docs/errors.md), and `AGENT_UNREACHABLE` of the client's own.
ERROR_CODES = RETRYABLE_CODES | FINAL_CODES


@dataclass(frozen=True)
class FieldViolation:
    """A request field that the agent refused; `field` is its name in the .proto file."""

    field: str
    description: str


class MortiseError(Exception):
    """A failed call.

    :ivar code: stable, one of `ERROR_CODES`. A code that this version does not know arrives as `INTERNAL`.
    :ivar reason: the agent's own word; equal to `code` unless the agent is newer than this client.
    :ivar retryable: whether the same call may succeed later. Says nothing about whether it is safe to repeat.
    :ivar fields: wrong request fields; empty unless `code` is `INVALID_REQUEST`.
    :ivar metadata: more about this occurrence, for example `rule`: the policy rule that denied it.
    :ivar retry_after_ms: wait at least so long before trying again, where the agent said so.
    :ivar correlation_id: finds the call in the agent's log and audit trail.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        reason: str = "",
        fields: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after_ms: int | None = None,
        correlation_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or code
        self.retryable = code in RETRYABLE_CODES
        self.fields = tuple(fields)
        self.metadata = dict(metadata or {})
        self.retry_after_ms = retry_after_ms
        self.correlation_id = correlation_id

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


_DOMAIN = "mortise"
_DETAILS = "grpc-status-details-bin"
_PREFIX = "type.googleapis.com/"

# Statuses without our details are made by the gRPC library here or there, not by the agent's operations.
_BY_STATUS = {
    grpc.StatusCode.CANCELLED: "AGENT_UNREACHABLE",
    grpc.StatusCode.INVALID_ARGUMENT: "INVALID_REQUEST",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    grpc.StatusCode.PERMISSION_DENIED: "PERMISSION_DENIED",
    grpc.StatusCode.UNAUTHENTICATED: "UNAUTHENTICATED",
    grpc.StatusCode.UNIMPLEMENTED: "UNIMPLEMENTED",
    grpc.StatusCode.UNAVAILABLE: "AGENT_UNREACHABLE",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "TOO_LARGE",
}


@dataclass
class _Details:
    reason: str = ""
    metadata: Mapping[str, str] | None = None
    fields: tuple[FieldViolation, ...] = ()
    retry_after_ms: int | None = None


def _read_details(error: Any) -> _Details:
    found = _Details()
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS:
            continue
        for packed in message_class("google.rpc.Status").FromString(value).details:
            name = packed.type_url.removeprefix(_PREFIX)
            if name == "google.rpc.ErrorInfo":
                info = message_class(name).FromString(packed.value)
                if info.domain == _DOMAIN:
                    found.reason, found.metadata = info.reason, dict(info.metadata)
            elif name == "google.rpc.BadRequest":
                rows = message_class(name).FromString(packed.value).field_violations
                found.fields = tuple(FieldViolation(row.field, row.description) for row in rows)
            elif name == "google.rpc.RetryInfo":
                delay = message_class(name).FromString(packed.value).retry_delay
                found.retry_after_ms = delay.seconds * 1000 + -(-delay.nanos // 1_000_000)
    return found


def from_rpc_error(error: Any, correlation_id: str) -> MortiseError:
    """The exception for what grpc raised."""
    details = _read_details(error)
    if details.reason:
        code = details.reason if details.reason in ERROR_CODES else "INTERNAL"
    else:
        code = _BY_STATUS.get(error.code(), "INTERNAL")
    return MortiseError(
        code,
        error.details() or "",
        reason=details.reason,
        fields=details.fields,
        metadata=details.metadata,
        retry_after_ms=details.retry_after_ms,
        correlation_id=correlation_id,
    )
