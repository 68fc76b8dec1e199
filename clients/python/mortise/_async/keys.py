"""The lifecycle of keys. A `key` is a key id or `<tenant>/<key id>`; the tenant is always the caller's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from .. import _convert as convert
from .. import types as t
from .._messages import RPCS, message_class
from .transport import AsyncTransport


class AsyncKeyOperations:
    """The keys of the caller's tenant."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def _call(self, rpc: str, fields: Mapping[str, Any], deadline: float | None, correlation_id: str | None) -> Any:
        request = RPCS[rpc].request(**fields)
        return await self._transport.call(rpc, request, deadline=deadline, correlation_id=correlation_id)

    async def create(
        self,
        key_id: str,
        purpose: t.Purpose,
        *,
        algorithm: str = "",
        jose_algorithm: str = "",
        labels: Mapping[str, str] | None = None,
        limits: t.KeyLimits | None = None,
        grants: Sequence[t.Grant] = (),
        activation_time: datetime | None = None,
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.KeyMade:
        """Makes a key with its first version. Idempotent by key id where purpose and algorithm agree.

        :param key_id: `[a-z0-9]` and then up to 63 of `[a-z0-9._-]`
        :param algorithm: id in the algorithm table; empty is the policy's default for the purpose
        :param jose_algorithm: RSA signing keys only: RS256 RS384 RS512 PS256 PS384 PS512
        :raises MortiseError: KEY_EXISTS, ALGORITHM_FORBIDDEN, POLICY_DENIED, FIPS_ONLY, HSM_UNSUPPORTED, …
        """
        fields = {
            "key_id": key_id,
            "purpose": convert.purpose_number(purpose),
            "algorithm": algorithm,
            "jose_algorithm": jose_algorithm,
            "labels": labels or {},
            "limits": convert.limits_message(limits),
            "grants": convert.grant_messages(grants),
            "activation_time": convert.timestamp(activation_time),
        }
        return convert.key_made(await self._call("CreateKey", fields, deadline, correlation_id))

    async def get(self, key: str, *, deadline: float | None = None, correlation_id: str | None = None) -> t.Key:
        """Reads a record."""
        return convert.key((await self._call("GetKey", {"key": key}, deadline, correlation_id)).key)

    async def page(
        self,
        *,
        purpose: t.Purpose | None = None,
        states: Sequence[t.KeyState] = (),
        labels: Mapping[str, str] | None = None,
        prefix: str = "",
        page_size: int = 0,
        page_token: str = "",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.KeyPage:
        """One page, in order of key id."""
        fields = {
            "page_size": page_size,
            "page_token": page_token,
            "purpose": convert.purpose_number(purpose),
            "states": convert.state_numbers(states),
            "labels": labels or {},
            "prefix": prefix,
        }
        answer = await self._call("ListKeys", fields, deadline, correlation_id)
        return t.KeyPage(tuple(convert.key(row) for row in answer.keys), answer.next_page_token)

    async def list(
        self,
        *,
        purpose: t.Purpose | None = None,
        states: Sequence[t.KeyState] = (),
        labels: Mapping[str, str] | None = None,
        prefix: str = "",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> AsyncIterator[t.Key]:
        """Every key that fits, page after page; the deadline is that of one page."""
        page_token = ""
        while True:
            page = await self.page(
                purpose=purpose,
                states=states,
                labels=labels,
                prefix=prefix,
                page_token=page_token,
                deadline=deadline,
                correlation_id=correlation_id,
            )
            for key in page.keys:
                yield key
            page_token = page.next_page_token
            if not page_token:
                return

    async def update(
        self,
        key: str,
        *,
        labels: Mapping[str, str] | None = None,
        limits: t.KeyLimits | None = None,
        grants: Sequence[t.Grant] | None = None,
        revision: int = 0,
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.Key:
        """Replaces labels, limits or grants; what is None stays. Repeated by the client only with `revision`.

        :raises MortiseError: KEY_CONFLICT where `revision` is given and is not the record's
        """
        fields: dict[str, Any] = {"key": key, "revision": revision, "limits": convert.limits_message(limits)}
        if labels is not None:
            fields["labels"] = message_class("mortise.agent.v1.LabelSet")(labels=labels)
        if grants is not None:
            fields["grants"] = message_class("mortise.agent.v1.GrantSet")(grants=convert.grant_messages(grants))
        return convert.key((await self._call("UpdateKey", fields, deadline, correlation_id)).key)

    async def rotate(
        self,
        key: str,
        *,
        algorithm: str = "",
        jose_algorithm: str = "",
        expected_version: int = 0,
        accept_loss: bool = False,
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.KeyMade:
        """Makes a new primary version. Not idempotent, and never repeated, unless `expected_version` is given."""
        fields = {
            "key": key,
            "algorithm": algorithm,
            "jose_algorithm": jose_algorithm,
            "expected_version": expected_version,
            "accept_loss": accept_loss,
        }
        return convert.key_made(await self._call("RotateKey", fields, deadline, correlation_id))

    async def suspend(
        self, key: str, *, reason: str = "", deadline: float | None = None, correlation_id: str | None = None
    ) -> t.Key:
        """Switches a key off until `resume`. Idempotent."""
        return convert.key(
            (await self._call("SuspendKey", {"key": key, "reason": reason}, deadline, correlation_id)).key
        )

    async def resume(
        self, key: str, *, reason: str = "", deadline: float | None = None, correlation_id: str | None = None
    ) -> t.Key:
        """Switches a suspended key on. Idempotent."""
        return convert.key(
            (await self._call("ResumeKey", {"key": key, "reason": reason}, deadline, correlation_id)).key
        )

    async def revoke(
        self,
        key: str,
        *,
        version: int = 0,
        reason: str = "",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.Key:
        """Withdraws a key, or one retired version of it, for ever. Idempotent."""
        fields = {"key": key, "version": version, "reason": reason}
        return convert.key((await self._call("RevokeKey", fields, deadline, correlation_id)).key)

    async def destroy(
        self, key: str, *, reason: str = "", deadline: float | None = None, correlation_id: str | None = None
    ) -> t.Key:
        """Starts the undo window; `destroy_time` of the answer is its end. Idempotent."""
        return convert.key(
            (await self._call("DestroyKey", {"key": key, "reason": reason}, deadline, correlation_id)).key
        )

    async def restore(
        self, key: str, *, reason: str = "", deadline: float | None = None, correlation_id: str | None = None
    ) -> t.Key:
        """Takes a key out of its undo window. Idempotent."""
        return convert.key(
            (await self._call("RestoreKey", {"key": key, "reason": reason}, deadline, correlation_id)).key
        )

    async def public_key(
        self,
        key: str,
        *,
        format: t.PublicKeyFormat = "jwk",
        version: int = 0,
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.PublicKey:
        """Public key as text.

        :raises MortiseError: INVALID_REQUEST for symmetric keys
        """
        fields = {"key": key, "version": version, "format": convert.format_number(format)}
        answer = await self._call("GetPublicKey", fields, deadline, correlation_id)
        return t.PublicKey(answer.public_key, convert.envelope(answer.envelope))

    async def import_key(self, *, deadline: float | None = None, correlation_id: str | None = None) -> t.ImportKey:
        """A public key of the agent to wrap a key for `import_wrapped`, as a Compact JWE to it by any JOSE library."""
        return convert.import_key(await self._call("GetImportKey", {}, deadline, correlation_id))

    async def import_wrapped(
        self,
        key_id: str,
        purpose: t.Purpose,
        *,
        algorithm: str,
        wrapped_key: str,
        jose_algorithm: str = "",
        labels: Mapping[str, str] | None = None,
        limits: t.KeyLimits | None = None,
        grants: Sequence[t.Grant] = (),
        activation_time: datetime | None = None,
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.KeyMade:
        """Makes a key of material that was made elsewhere. Never repeated by the client."""
        fields = {
            "key_id": key_id,
            "purpose": convert.purpose_number(purpose),
            "algorithm": algorithm,
            "jose_algorithm": jose_algorithm,
            "wrapped_key": wrapped_key,
            "labels": labels or {},
            "limits": convert.limits_message(limits),
            "grants": convert.grant_messages(grants),
            "activation_time": convert.timestamp(activation_time),
        }
        return convert.key_made(await self._call("ImportKey", fields, deadline, correlation_id))

    async def import_version(
        self,
        key_id: str,
        *,
        algorithm: str,
        wrapped_key: str,
        jose_algorithm: str = "",
        expected_version: int = 0,
        accept_loss: bool = False,
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.KeyMade:
        """Makes material that was made elsewhere the primary version of a key; the former one is retired.

        Never repeated by the client.
        """
        as_version = {"expected_version": expected_version, "accept_loss": accept_loss}
        fields = {
            "key_id": key_id,
            "algorithm": algorithm,
            "jose_algorithm": jose_algorithm,
            "wrapped_key": wrapped_key,
            "as_version": as_version,
        }
        return convert.key_made(await self._call("ImportKey", fields, deadline, correlation_id))

    async def rotate_tenant_kek(
        self, *, deadline: float | None = None, correlation_id: str | None = None
    ) -> t.KekRotation:
        """Makes a new version of the tenant's key encryption key and moves every blob to it. Never repeated."""
        answer = await self._call("RotateTenantKek", {}, deadline, correlation_id)
        return t.KekRotation(answer.version, answer.rewrapped)
