"""The connection to the agent and the life of a call: deadline, token, attempts.

Every failure is a MortiseError with the correlation id that was sent.
"""

from __future__ import annotations

import asyncio
# async only
import inspect
# end
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from .._messages import RPCS
from ..credentials import HeldToken, TokenFile, TokenSource, call_metadata
from ..errors import MortiseError, from_rpc_error
from ..retry import Retry, is_safe_to_repeat

# 1000 audit records of 4 KiB detail are the largest answer that the API allows.
_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
    ("grpc.enable_retries", 0),  # retry.py decides; the library's own rules know nothing of idempotency
    # An agent that restarts is back within a second; the library's defaults would wait minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)


class AsyncTransport:
    """Calls on one channel. Safe to share."""

    def __init__(
        self, *, socket: str, token: TokenSource | None, reuse_token: bool, deadline: float, retry: Retry
    ) -> None:
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=_CHANNEL_OPTIONS)
        self._source = token
        self._reuse = reuse_token
        self._held = HeldToken()
        self._lock = asyncio.Lock()
        self._deadline = deadline
        self._closed = False
        self.retry = retry

    async def close(self) -> None:
        """Ends the connection; calls in flight fail with CANCELLED."""
        self._closed = True
        await self._channel.close()

    async def call(
        self, rpc: str, request: Any, *, deadline: float | None = None, correlation_id: str | None = None
    ) -> Any:
        """One call, repeated as retry.py allows."""
        ends_at = time.monotonic() + (self._deadline if deadline is None else deadline)
        correlation_id = correlation_id or str(uuid.uuid4())
        repeatable = is_safe_to_repeat(rpc, request)
        renewed = False
        attempt = 0
        while True:
            attempt += 1
            token = await self.token(correlation_id)
            metadata = call_metadata(token, correlation_id)
            try:
                return await self._attempt(rpc, request, metadata, ends_at, correlation_id)
            except MortiseError as error:
                # The agent refuses an expired token before it acts, so this repeat is safe for every operation.
                if error.code == "TOKEN_EXPIRED" and not renewed and self.expire(token):
                    renewed = True
                    continue
                if not error.retryable or not repeatable or attempt >= self.retry.max_attempts:
                    raise
                delay = self.retry.delay_before(attempt, error)
                if time.monotonic() + delay >= ends_at:
                    raise
            await asyncio.sleep(delay)

    async def stream(self, rpc: str, request: Any, *, deadline: float, correlation_id: str) -> AsyncIterator[Any]:
        """One attempt of a call that is answered with a stream. Leaving the loop cancels it."""
        token = await self.token(correlation_id)
        metadata = call_metadata(token, correlation_id)
        row = RPCS[rpc]
        self._check_open(correlation_id)
        method = self._channel.unary_stream(
            row.path, request_serializer=row.request.SerializeToString, response_deserializer=row.response.FromString
        )
        call = method(request, timeout=deadline, metadata=metadata)
        try:
            async for answer in call:
                yield answer
        except grpc.RpcError as error:
            raise self.failure(error, correlation_id, token) from error
        finally:
            call.cancel()

    def exchange(self, rpc: str, requests: Any, *, token: str | None, deadline: float | None, correlation_id: str) -> Any:
        """The grpc call of a bidirectional stream, which the caller iterates."""
        metadata = call_metadata(token, correlation_id)
        row = RPCS[rpc]
        self._check_open(correlation_id)
        method = self._channel.stream_stream(
            row.path, request_serializer=row.request.SerializeToString, response_deserializer=row.response.FromString
        )
        return method(requests, timeout=deadline, metadata=metadata)

    async def token(self, correlation_id: str) -> str | None:
        """The token for one attempt; None where there is none and the peer's uid has to do."""
        source = self._source
        if source is None:
            return None
        if isinstance(source, str):
            return source.strip()
        if isinstance(source, TokenFile):
            return source.read()
        if not self._reuse:
            return await self._provide(source, correlation_id)
        async with self._lock:
            held = self._held.get()
            if held is None:
                held = await self._provide(source, correlation_id)
                self._held.put(held)
            return held

    def expire(self, token: str | None) -> bool:
        """Drops a token that the agent calls expired; says whether a fresh one can be had."""
        source = self._source
        if source is None or isinstance(source, str):
            return False
        if isinstance(source, TokenFile):
            source.forget()
        else:
            self._held.drop(token)
        return True

    def failure(self, error: Any, correlation_id: str, token: str | None = None) -> MortiseError:
        """The exception for what grpc raised; a connection that we ended is a cancelled call."""
        found = from_rpc_error(error, correlation_id)
        if found.code == "TOKEN_EXPIRED":
            self.expire(token)
        if found.code == "AGENT_UNREACHABLE" and self._closed:
            return MortiseError("CANCELLED", "the client was closed", correlation_id=correlation_id)
        return found

    async def _provide(self, source: Any, correlation_id: str) -> str:
        try:
            token = source()
            # async only
            if inspect.isawaitable(token):
                token = await token
            # end
            return str(token).strip()
        except MortiseError:
            raise
        except Exception as error:
            raise MortiseError(
                "UNAUTHENTICATED", "the token provider failed", correlation_id=correlation_id
            ) from error

    async def _attempt(
        self, rpc: str, request: Any, metadata: Any, ends_at: float, correlation_id: str
    ) -> Any:
        row = RPCS[rpc]
        self._check_open(correlation_id)
        timeout = ends_at - time.monotonic()
        if timeout <= 0:
            raise MortiseError("DEADLINE_EXCEEDED", "no time was left for the call", correlation_id=correlation_id)
        method = self._channel.unary_unary(
            row.path, request_serializer=row.request.SerializeToString, response_deserializer=row.response.FromString
        )
        try:
            return await method(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise self.failure(error, correlation_id) from error

    def _check_open(self, correlation_id: str) -> None:
        if self._closed:
            raise MortiseError("CANCELLED", "the client is closed", correlation_id=correlation_id)
