"""What the operations take and give. Times are aware datetimes in UTC; bytes are bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Purpose = Literal["encrypt", "sign", "mac"]
Custody = Literal["hsm", "wrapped", "split"]
Origin = Literal["generated", "imported"]
KeyState = Literal["PRE_ACTIVE", "ACTIVE", "SUSPENDED", "EXPIRED", "REVOKED", "PENDING_DESTRUCTION", "DESTROYED"]
VersionState = Literal["PRIMARY", "RETIRED", "REVOKED", "DESTROYED"]
#: Compact JWS with or without its payload, RFC 7797 unencoded, or the bare signature.
SignatureForm = Literal["jws", "jws-detached", "jws-unencoded", "raw"]
PublicKeyFormat = Literal["jwk", "pem", "jwks"]
HealthStatus = Literal["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]


@dataclass(frozen=True)
class Warning:
    """Something to act on though the call succeeded, for example `SOFT_LIMIT` or `ALGORITHM_SUNSET`."""

    code: str
    message: str


@dataclass(frozen=True)
class KeyUsed:
    """One key version by name."""

    key_id: str
    version: int


@dataclass(frozen=True)
class Envelope:
    """What was asked and what was done."""

    key_requested: str
    #: None where the caller brought the key.
    key_used: KeyUsed | None
    #: A JOSE name such as `A256GCMKW` or `ES256`.
    algorithm_used: str
    warnings: tuple[Warning, ...]
    correlation_id: str
    #: The record in the audit log; empty where policy let the operation go on unrecorded.
    event_id: str = ""


@dataclass(frozen=True)
class Encrypted:
    jwe: str
    envelope: Envelope


@dataclass(frozen=True)
class Decrypted:
    plaintext: bytes = field(repr=False)
    envelope: Envelope


@dataclass(frozen=True)
class Signed:
    #: Set by the forms `jws*`.
    jws: str
    #: Set by the form `raw`: r || s for ECDSA.
    signature: bytes
    envelope: Envelope


@dataclass(frozen=True)
class Verification:
    """A wrong signature is an answer, not an error."""

    valid: bool
    #: Payload of a valid JWS that carries it; empty otherwise.
    payload: bytes
    envelope: Envelope


@dataclass(frozen=True)
class Mac:
    mac: bytes
    #: `envelope.key_used.version` belongs to `verify_mac` once the key was rotated.
    envelope: Envelope


@dataclass(frozen=True)
class MacVerification:
    valid: bool
    envelope: Envelope


@dataclass(frozen=True)
class Recipient:
    """Who can open a JWE: a key of the tenant, or a public JWK (JSON text or mapping). Exactly one of them."""

    key: str = ""
    public_jwk: str | Mapping[str, object] = ""


@dataclass(frozen=True)
class EncryptedGeneral:
    jwe: str
    keys_used: tuple[KeyUsed, ...]
    envelope: Envelope


@dataclass(frozen=True)
class ReEncrypted:
    jwe: str
    envelope: Envelope
    source_key_used: KeyUsed | None
    source_algorithm_used: str


@dataclass(frozen=True)
class Rewrapped:
    jwe: str
    envelope: Envelope
    source_key_used: KeyUsed | None
    source_algorithm_used: str
    keys_used: tuple[KeyUsed, ...]
    #: Whether each content key that was moved stayed inside the token process.
    inside_token: bool


@dataclass(frozen=True)
class ReSigned:
    jws: str
    envelope: Envelope
    source_key_used: KeyUsed | None
    source_algorithm_used: str


@dataclass(frozen=True)
class DataKey:
    #: The key itself, to encrypt with and forget; empty with `wrapped_only`.
    data_key: bytes = field(repr=False)
    #: To keep beside the data; empty in the answer of `decrypt_data_key`.
    wrapped_data_key: str
    envelope: Envelope


@dataclass(frozen=True)
class KeyLimits:
    """What is None is the policy's default. A soft limit warns, a hard limit stops."""

    soft_uses: int | None = None
    hard_uses: int | None = None
    soft_expiry: datetime | None = None
    hard_expiry: datetime | None = None


@dataclass(frozen=True)
class Grant:
    """Lets a principal do these operations with a key; with any grant, only the granted principals may use it."""

    principal: str
    operations: Sequence[str]


@dataclass(frozen=True)
class KeyVersion:
    version: int
    algorithm: str
    jose_algorithm: str
    state: VersionState
    custody: Custody
    origin: Origin
    create_time: datetime | None
    uses: int
    last_apply_time: datetime | None
    last_process_time: datetime | None
    sunset_warn_time: datetime | None
    sunset_time: datetime | None


@dataclass(frozen=True)
class Key:
    """A key record; never holds secret material."""

    key_id: str
    tenant: str
    purpose: Purpose
    state: KeyState
    labels: Mapping[str, str]
    limits: KeyLimits
    grants: tuple[Grant, ...]
    #: Oldest first.
    versions: tuple[KeyVersion, ...]
    create_time: datetime | None
    update_time: datetime | None
    activation_time: datetime | None
    destroy_time: datetime | None
    #: Grows by one with each change; give it to `update` for compare-and-set.
    revision: int
    uses: int


@dataclass(frozen=True)
class KeyMade:
    key: Key
    envelope: Envelope


@dataclass(frozen=True)
class KeyPage:
    keys: tuple[Key, ...]
    #: Empty on the last page.
    next_page_token: str


@dataclass(frozen=True)
class PublicKey:
    #: JSON text or PEM text.
    public_key: str
    envelope: Envelope


@dataclass(frozen=True)
class ImportKey:
    """A public JWK to wrap a key for `import_key`; it takes one import."""

    public_jwk: Mapping[str, str]
    expire_time: datetime | None


@dataclass(frozen=True)
class KekRotation:
    version: int
    rewrapped: int


@dataclass(frozen=True)
class AuditRecord:
    """One record of the tenant's audit log; docs/spec/audit.md has its bytes."""

    index: int
    tenant: str
    principal: str
    key: str
    algorithm: str
    operation: str
    #: `ok` or an error code.
    outcome: str
    #: RFC 3339, UTC, microseconds.
    time: str
    correlation_id: str
    event_id: str
    #: JSON, or empty.
    detail: str
    canonical: bytes
    mac: bytes


@dataclass(frozen=True)
class AuditPage:
    records: tuple[AuditRecord, ...]
    #: Number of records in the log.
    size: int


@dataclass(frozen=True)
class Checkpoint:
    #: Signed note (C2SP tlog-checkpoint).
    checkpoint: str
    #: Public JWK that verifies it, as JSON text.
    public_jwk: str


@dataclass(frozen=True)
class Receipt:
    """That a record is in the log, to be verified offline (`mortise receipt verify`) with a pinned key."""

    #: C2SP tlog-proof: index, inclusion proof, signed checkpoint.
    proof: str
    #: The record in canonical form, and its MAC.
    record: bytes
    mac: bytes
    #: Public JWK of the checkpoint's host. Pin it; do not believe it.
    public_jwk: str
    #: Whether the registry has countersigned the checkpoint.
    countersigned: bool


@dataclass(frozen=True)
class Finding:
    code: str
    index: int
    message: str


@dataclass(frozen=True)
class LogVerification:
    intact: bool
    size: int
    root: str
    findings: tuple[Finding, ...]
    checkpoint_time: datetime | None


@dataclass(frozen=True)
class Identity:
    tenant: str
    principal: str
    scopes: tuple[str, ...]
    #: `jwt` or `peer`.
    authenticated_by: str
    uid: int
    gid: int
    pid: int


@dataclass(frozen=True)
class PartStatus:
    part: str
    healthy: bool
    detail: str


@dataclass(frozen=True)
class PolicyStatus:
    scope: str
    version: int
    digest: str
    expires_at: datetime | None
    verified_at: datetime | None
    stale: bool


@dataclass(frozen=True)
class TokenStatus:
    label: str
    model: str
    serial: str
    library: str
    sessions: int
    restarts: int
    abilities: tuple[str, ...]


@dataclass(frozen=True)
class TokenCertificate:
    """What the host's operator says of the validation of a token's module."""

    identifier: str
    standard: str
    level: int
    expire_time: datetime | None
    #: `active`, `historical` or `revoked`.
    status: str
    #: Why an auditor would ask, or empty.
    warning: str


@dataclass(frozen=True)
class TokenState:
    #: As the host's configuration calls it.
    name: str
    healthy: bool
    detail: str
    #: None until the token was there once.
    token: TokenStatus | None
    #: None where the operator has said nothing.
    certificate: TokenCertificate | None


@dataclass(frozen=True)
class AgentStatus:
    version: str
    host: str
    start_time: datetime | None
    parts: tuple[PartStatus, ...]
    policies: tuple[PolicyStatus, ...]
    #: That of the caller's tenant; for the platform the one with the agent's own keys.
    token: TokenStatus | None
    #: For the platform every token of the host, for others their own.
    tokens: tuple[TokenState, ...]
    fips_boundary: str
    openssl_fips: bool


@dataclass(frozen=True)
class Explanation:
    allowed: bool
    rule: str
    explanation: str
    #: The error code that the call would get; empty where allowed.
    code: str


@dataclass(frozen=True)
class StreamSignature:
    #: Detached or unencoded JWS.
    jws: str
    #: Set by the form `raw`.
    signature: bytes
    bytes_received: int
    envelope: Envelope


@dataclass(frozen=True)
class StreamReSigned:
    #: Of the same form and `typ`.
    jws: str
    bytes_received: int
    envelope: Envelope
    source_key_used: KeyUsed | None
    source_algorithm_used: str


@dataclass(frozen=True)
class StreamVerification:
    valid: bool
    bytes_received: int
    envelope: Envelope
