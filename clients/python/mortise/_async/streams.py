"""Data of any size: encrypt, decrypt, sign, verify and re-encrypt as streams.

What iterates to its end is whole; a stream that ends before its time raises. A stream is never repeated: its source can
be read only once.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import grpc.aio

from .. import _convert as convert
from .. import types as t
from .._messages import RPCS, message_class
from ..errors import MortiseError
from .transport import AsyncTransport

#: Bytes to send, in pieces of any size.
AsyncByteSource = AsyncIterable[bytes]

# 15 chunks of 16 KiB: whole ones cost the agent no copy, and with their tags they stay below 256 KiB.
_MESSAGE_BYTES = 15 * 16 * 1024


def _freshness() -> Any:
    return message_class("mortise.agent.v1.Freshness")(
        nonce=os.urandom(16), timestamp=convert.timestamp(datetime.now(timezone.utc))
    )


async def _pieces(source: AsyncByteSource) -> AsyncIterator[bytes]:
    """The source in pieces of at most one message."""
    held = bytearray()
    async for piece in source:
        held += piece
        while len(held) >= _MESSAGE_BYTES:
            yield bytes(held[:_MESSAGE_BYTES])
            del held[:_MESSAGE_BYTES]
    if held:
        yield bytes(held)


class _Upload:
    """The messages of the client, and why its source failed, where it did."""

    def __init__(self, rpc: str, opening: Mapping[str, Any], source: AsyncByteSource) -> None:
        self._rpc = rpc
        self._opening = opening
        self._source = source
        self.failure: Exception | None = None
        self.cancel: Callable[[], object] = lambda: None

    async def messages(self) -> AsyncIterator[Any]:
        request = RPCS[self._rpc].request
        opening = message_class(request.DESCRIPTOR.fields_by_name["opening"].message_type.full_name)
        yield request(opening=opening(freshness=_freshness(), **self._opening))
        sent = 0
        try:
            async for piece in _pieces(self._source):
                yield request(data=piece)
                sent += len(piece)
        except Exception as error:  # of the source, whatever it is; the stream raises it
            self.failure = error
            self.cancel()
            return
        yield request(end=message_class("mortise.agent.v1.StreamEnd")(bytes=sent))


class AsyncDataStream:
    """The bytes that come out, to be iterated once. Leaving the loop cancels the stream: what came is then a part."""

    def __init__(self, open_call: Callable[[], AsyncIterator[Any]]) -> None:
        self._open = open_call
        self._begun: Any = None
        self._started = False

    @property
    def envelope(self) -> t.Envelope | None:
        """What is being done; known once the first bytes are there."""
        return None if self._begun is None else convert.envelope(self._begun.envelope)

    @property
    def source_key_used(self) -> t.KeyUsed | None:
        """Of `re_encrypt`: what it is decrypted with; known once the first bytes are there."""
        if self._begun is None or "source_key_used" not in self._begun.DESCRIPTOR.fields_by_name:
            return None
        return convert.key_used(self._begun, "source_key_used")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._started:
            raise TypeError("the stream can be read only once")
        self._started = True
        done = False
        async for answer in self._open():
            part = answer.WhichOneof("part")
            if part == "begun":
                self._begun = answer.begun
            elif part == "data":
                yield answer.data
            elif part == "done":
                done = True
        if not done:
            raise _ended_early()


def _ended_early() -> MortiseError:
    return MortiseError("INTERNAL", "the agent ended the stream without saying that it is done")


class AsyncStreamOperations:
    """Streams have no deadline unless given one, in seconds; the agent ends those that send nothing for too long."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def encrypt(
        self,
        key: str,
        source: AsyncByteSource,
        *,
        associated_data: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> AsyncDataStream:
        """Encrypts to a container (docs/spec/chunked.md) under a key."""
        opening = {"key": key, "associated_data": associated_data}
        return self._data("EncryptStream", opening, source, deadline, correlation_id)

    def decrypt(
        self,
        source: AsyncByteSource,
        *,
        key: str = "",
        associated_data: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> AsyncDataStream:
        """Decrypts a container. Each piece is authentic; that nothing was cut off is known only at the end."""
        opening = {"key": key, "associated_data": associated_data}
        return self._data("DecryptStream", opening, source, deadline, correlation_id)

    def re_encrypt(
        self,
        source: AsyncByteSource,
        *,
        source_key: str = "",
        target_key: str = "",
        associated_data: bytes = b"",
        new_associated_data: bytes | None = None,
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> AsyncDataStream:
        """Moves a container to another key; the plaintext does not leave the agent."""
        opening = {
            "source_key": source_key,
            "target_key": target_key,
            "associated_data": associated_data,
            "new_associated_data": new_associated_data,
        }
        return self._data("ReEncryptStream", opening, source, deadline, correlation_id)

    async def sign(
        self,
        key: str,
        source: AsyncByteSource,
        *,
        form: t.SignatureForm = "jws-detached",
        type: str = "",
        context: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.StreamSignature:
        """Signs; `jws` cannot be streamed. Ed25519 signs the message whole and has the limits of `sign`."""
        opening = {"key": key, "form": convert.form_number(form), "type": type, "context": context}
        answer = await self._answer("SignStream", opening, source, deadline, correlation_id)
        return t.StreamSignature(
            answer.jws, answer.signature, answer.bytes_received, convert.envelope(answer.envelope)
        )

    async def verify(
        self,
        source: AsyncByteSource,
        *,
        jws: str | None = None,
        raw: bytes | None = None,
        key: str = "",
        version: int = 0,
        context: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.StreamVerification:
        """Verifies a detached or unencoded JWS, or a raw signature, over the data. A wrong one is an answer."""
        if (jws is None) == (raw is None):
            raise ValueError("either jws or raw")
        signature: dict[str, Any] = {"jws": jws} if raw is None else {"raw": raw}
        opening = {"key": key, "version": version, "context": context, **signature}
        answer = await self._answer("VerifyStream", opening, source, deadline, correlation_id)
        return t.StreamVerification(answer.valid, answer.bytes_received, convert.envelope(answer.envelope))

    async def re_sign(
        self,
        jws: str,
        source: AsyncByteSource,
        *,
        source_key: str = "",
        target_key: str = "",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.StreamReSigned:
        """Verifies a detached JWS over the data and signs the same data by another key, in the same form.

        :raises MortiseError: SIGNATURE_INVALID where it does not verify
        """
        opening = {"jws": jws, "source_key": source_key, "target_key": target_key}
        answer = await self._answer("ReSignStream", opening, source, deadline, correlation_id)
        return t.StreamReSigned(
            jws=answer.jws,
            bytes_received=answer.bytes_received,
            envelope=convert.envelope(answer.envelope),
            source_key_used=convert.key_used(answer, "source_key_used"),
            source_algorithm_used=answer.source_algorithm_used,
        )

    async def verify_with(
        self,
        public_key: str | Mapping[str, object],
        source: AsyncByteSource,
        *,
        jws: str | None = None,
        raw: bytes | None = None,
        context: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.StreamVerification:
        """Verifies over the data by a public key that is never stored, a JWK or PEM text."""
        if (jws is None) == (raw is None):
            raise ValueError("either jws or raw")
        signature: dict[str, Any] = {"jws": jws} if raw is None else {"raw": raw}
        opening = {"public_jwk": convert.jwk_text(public_key), "context": context, **signature}
        answer = await self._answer("VerifyWithStream", opening, source, deadline, correlation_id)
        return t.StreamVerification(answer.valid, answer.bytes_received, convert.envelope(answer.envelope))

    def _data(
        self,
        rpc: str,
        opening: Mapping[str, Any],
        source: AsyncByteSource,
        deadline: float | None,
        correlation_id: str | None,
    ) -> AsyncDataStream:
        return AsyncDataStream(lambda: self._exchange(rpc, opening, source, deadline, correlation_id))

    async def _answer(
        self,
        rpc: str,
        opening: Mapping[str, Any],
        source: AsyncByteSource,
        deadline: float | None,
        correlation_id: str | None,
    ) -> Any:
        answer = None
        async for message in self._exchange(rpc, opening, source, deadline, correlation_id):
            answer = message
        if answer is None:
            raise _ended_early()
        return answer

    async def _exchange(
        self,
        rpc: str,
        opening: Mapping[str, Any],
        source: AsyncByteSource,
        deadline: float | None,
        correlation_id: str | None,
    ) -> AsyncIterator[Any]:
        ends_at = None if deadline is None else time.monotonic() + deadline
        name = correlation_id or str(uuid.uuid4())
        token = await self._transport.token(name)
        upload = _Upload(rpc, opening, source)
        left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
        call = self._transport.exchange(rpc, upload.messages(), token=token, deadline=left, correlation_id=name)
        upload.cancel = call.cancel
        try:
            async for answer in call:
                yield answer
        # async only
        except asyncio.CancelledError as error:  # raised for a call that was cancelled by its source
            if upload.failure is not None:
                raise upload.failure from error
            raise
        # end
        except grpc.RpcError as error:
            if upload.failure is not None:
                raise upload.failure from error
            raise self._transport.failure(error, name, token) from error
        finally:
            call.cancel()
