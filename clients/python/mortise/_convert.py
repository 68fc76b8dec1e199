"""Between the agent's messages and the dataclasses of `types`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from . import types as t
from ._messages import message_class

_PURPOSES: dict[str, int] = {"encrypt": 1, "sign": 2, "mac": 3}
_PURPOSE_NAMES: tuple[Any, ...] = ("", "encrypt", "sign", "mac")
_STATES: tuple[Any, ...] = (
    "",
    "PRE_ACTIVE",
    "ACTIVE",
    "SUSPENDED",
    "EXPIRED",
    "REVOKED",
    "PENDING_DESTRUCTION",
    "DESTROYED",
)
_VERSION_STATES: tuple[Any, ...] = ("", "PRIMARY", "RETIRED", "REVOKED", "DESTROYED")
_CUSTODIES: tuple[Any, ...] = ("", "hsm", "wrapped", "split")
_ORIGINS: tuple[Any, ...] = ("", "generated", "imported")
_FORMS: dict[str, int] = {"jws": 1, "jws-detached": 2, "jws-unencoded": 3, "raw": 4}
_FORMATS: dict[str, int] = {"jwk": 1, "pem": 2, "jwks": 3}
_HEALTH: tuple[Any, ...] = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def purpose_number(purpose: t.Purpose | None) -> int:
    return 0 if purpose is None else _PURPOSES[purpose]


def form_number(form: t.SignatureForm) -> int:
    return _FORMS[form]


def format_number(form: t.PublicKeyFormat) -> int:
    return _FORMATS[form]


def state_numbers(states: Iterable[t.KeyState]) -> list[int]:
    return [_STATES.index(state) for state in states]


def health_name(status: int) -> t.HealthStatus:
    found: t.HealthStatus = _HEALTH[status] if status < len(_HEALTH) else "UNKNOWN"
    return found


def timestamp(time: datetime | None) -> Any:
    """A google.protobuf.Timestamp; naive datetimes are refused, since nobody knows what they mean."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError("times must have a time zone")
    since = time - _EPOCH
    return message_class("google.protobuf.Timestamp")(
        seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000
    )


def _time(message: Any, name: str) -> datetime | None:
    if not message.HasField(name):
        return None
    found = getattr(message, name)
    return _EPOCH + timedelta(seconds=found.seconds, microseconds=found.nanos // 1000)


def jwk_text(jwk: str | Mapping[str, object]) -> str:
    """A public key as the agent takes it: JSON or PEM text."""
    return jwk if isinstance(jwk, str) else json.dumps(jwk)


def envelope(message: Any) -> t.Envelope:
    return t.Envelope(
        key_requested=message.key_requested,
        key_used=key_used(message, "key_used"),
        algorithm_used=message.algorithm_used,
        warnings=tuple(t.Warning(row.code, row.message) for row in message.warnings),
        correlation_id=message.correlation_id,
        event_id=message.event_id,
    )


def key_used(message: Any, name: str) -> t.KeyUsed | None:
    return _key_version(getattr(message, name)) if message.HasField(name) else None


def _key_version(message: Any) -> t.KeyUsed:
    return t.KeyUsed(message.key_id, message.version)


def keys_used(messages: Iterable[Any]) -> tuple[t.KeyUsed, ...]:
    return tuple(_key_version(message) for message in messages)


def recipients(rows: Sequence[t.Recipient]) -> list[Any]:
    made = []
    for row in rows:
        if bool(row.key) == bool(row.public_jwk):
            raise ValueError("a recipient is either a key or a public JWK")
        message = message_class("mortise.agent.v1.Recipient")
        made.append(message(key=row.key) if row.key else message(public_jwk=jwk_text(row.public_jwk)))
    return made


def limits_message(limits: t.KeyLimits | None) -> Any:
    if limits is None:
        return None
    return message_class("mortise.agent.v1.KeyLimits")(
        soft_uses=limits.soft_uses or 0,
        hard_uses=limits.hard_uses or 0,
        soft_expiry=timestamp(limits.soft_expiry),
        hard_expiry=timestamp(limits.hard_expiry),
    )


def grant_messages(grants: Iterable[t.Grant]) -> list[Any]:
    grant = message_class("mortise.agent.v1.Grant")
    return [grant(principal=row.principal, operations=row.operations) for row in grants]


def _limits(message: Any) -> t.KeyLimits:
    return t.KeyLimits(
        soft_uses=message.soft_uses or None,
        hard_uses=message.hard_uses or None,
        soft_expiry=_time(message, "soft_expiry"),
        hard_expiry=_time(message, "hard_expiry"),
    )


def _version(message: Any) -> t.KeyVersion:
    return t.KeyVersion(
        version=message.version,
        algorithm=message.algorithm,
        jose_algorithm=message.jose_algorithm,
        state=_VERSION_STATES[message.state],
        custody=_CUSTODIES[message.custody],
        origin=_ORIGINS[message.origin],
        create_time=_time(message, "create_time"),
        uses=message.uses,
        last_apply_time=_time(message, "last_apply_time"),
        last_process_time=_time(message, "last_process_time"),
        sunset_warn_time=_time(message, "sunset_warn_time"),
        sunset_time=_time(message, "sunset_time"),
    )


def key(message: Any) -> t.Key:
    return t.Key(
        key_id=message.key_id,
        tenant=message.tenant,
        purpose=_PURPOSE_NAMES[message.purpose],
        state=_STATES[message.state],
        labels=dict(message.labels),
        limits=_limits(message.limits),
        grants=tuple(t.Grant(row.principal, tuple(row.operations)) for row in message.grants),
        versions=tuple(_version(row) for row in message.versions),
        create_time=_time(message, "create_time"),
        update_time=_time(message, "update_time"),
        activation_time=_time(message, "activation_time"),
        destroy_time=_time(message, "destroy_time"),
        revision=message.revision,
        uses=message.uses,
    )


def key_made(message: Any) -> t.KeyMade:
    return t.KeyMade(key(message.key), envelope(message.envelope))


def import_key(message: Any) -> t.ImportKey:
    return t.ImportKey(public_jwk=json.loads(message.public_jwk), expire_time=_time(message, "expire_time"))


def audit_record(message: Any) -> t.AuditRecord:
    return t.AuditRecord(
        index=message.index,
        tenant=message.tenant,
        principal=message.principal,
        key=message.key,
        algorithm=message.algorithm,
        operation=message.operation,
        outcome=message.outcome,
        time=message.time,
        correlation_id=message.correlation_id,
        event_id=message.event_id,
        detail=message.detail,
        canonical=message.canonical,
        mac=message.mac,
    )


def log_verification(message: Any) -> t.LogVerification:
    return t.LogVerification(
        intact=message.intact,
        size=message.size,
        root=message.root,
        findings=tuple(t.Finding(row.code, row.index, row.message) for row in message.findings),
        checkpoint_time=_time(message, "checkpoint_time"),
    )


def _token(message: Any) -> t.TokenStatus | None:
    if not message.HasField("token"):
        return None
    token = message.token
    return t.TokenStatus(
        label=token.label,
        model=token.model,
        serial=token.serial,
        library=token.library,
        sessions=token.sessions,
        restarts=token.restarts,
        abilities=tuple(token.abilities),
    )


def _certificate(message: Any) -> t.TokenCertificate | None:
    if not message.HasField("certificate"):
        return None
    found = message.certificate
    return t.TokenCertificate(
        identifier=found.identifier,
        standard=found.standard,
        level=found.level,
        expire_time=_time(found, "expire_time"),
        status=found.status,
        warning=found.warning,
    )


def agent_status(message: Any) -> t.AgentStatus:
    return t.AgentStatus(
        version=message.version,
        host=message.host,
        start_time=_time(message, "start_time"),
        parts=tuple(t.PartStatus(row.part, row.healthy, row.detail) for row in message.parts),
        policies=tuple(
            t.PolicyStatus(
                scope=row.scope,
                version=row.version,
                digest=row.digest,
                expires_at=_time(row, "expires_at"),
                verified_at=_time(row, "verified_at"),
                stale=row.stale,
            )
            for row in message.policies
        ),
        token=_token(message),
        tokens=tuple(
            t.TokenState(row.name, row.healthy, row.detail, _token(row), _certificate(row)) for row in message.tokens
        ),
        fips_boundary=message.fips_boundary,
        openssl_fips=message.openssl_fips,
    )
