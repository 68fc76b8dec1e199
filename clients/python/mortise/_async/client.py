"""The client: one connection, the operations on it, and its end."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from .. import _convert as convert
from .. import types as t
from .._messages import RPCS
from ..credentials import TokenSource
from ..discovery import socket_path
from ..errors import MortiseError
from ..retry import NO_RETRY, Retry
from .audit import AsyncAuditOperations
from .keys import AsyncKeyOperations
from .operations import AsyncCryptoOperations
from .streams import AsyncStreamOperations
from .transport import AsyncTransport


class AsyncClient(AsyncCryptoOperations):
    """A client of the agent on this host. Safe to share; make one per process, after it has forked.

    :param socket: path of the agent's socket; default `MORTISE_SOCKET`, else `/run/mortise/agent.sock`
    :param token: a JWT, a `TokenFile`, or a function that gets one; without it the agent goes by the process's uid
    :param reuse_token: False where the issuer's tokens are for single use: the function is then called every time
    :param deadline: seconds that a call may take, repeats included, unless it says otherwise
    :param retry: how to repeat calls that are safe to repeat; None switches repeats off
    """

    def __init__(
        self,
        socket: str | None = None,
        *,
        token: TokenSource | None = None,
        reuse_token: bool = True,
        deadline: float = 10.0,
        retry: Retry | None = Retry(),
    ) -> None:
        transport = AsyncTransport(
            socket=socket_path(socket),
            token=token,
            reuse_token=reuse_token,
            deadline=deadline,
            retry=retry or NO_RETRY,
        )
        super().__init__(transport)
        self.keys = AsyncKeyOperations(transport)
        self.audit = AsyncAuditOperations(transport)
        self.streams = AsyncStreamOperations(transport)

    async def who_am_i(self, *, deadline: float | None = None, correlation_id: str | None = None) -> t.Identity:
        """Who the caller is to the agent: a way to test credentials."""
        answer = await self._call("WhoAmI", {}, deadline, correlation_id)
        return t.Identity(
            tenant=answer.tenant,
            principal=answer.principal,
            scopes=tuple(answer.scopes),
            authenticated_by=answer.authenticated_by,
            uid=answer.uid,
            gid=answer.gid,
            pid=answer.pid,
        )

    async def status(self, *, deadline: float | None = None, correlation_id: str | None = None) -> t.AgentStatus:
        """State of every part of the agent, with the policy of the caller's tenant."""
        return convert.agent_status(await self._call("GetStatus", {}, deadline, correlation_id))

    async def explain(
        self,
        operation: str,
        *,
        key: str = "",
        algorithm: str = "",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.Explanation:
        """Says by which rule a call would be allowed or denied, without making it."""
        fields = {"operation": operation, "key": key, "algorithm": algorithm}
        answer = await self._call("Explain", fields, deadline, correlation_id)
        return t.Explanation(answer.allowed, answer.rule, answer.explanation, answer.code)

    async def health(
        self, service: str = "", *, deadline: float | None = None, correlation_id: str | None = None
    ) -> t.HealthStatus:
        """The standard health check (grpc.health.v1); `service` names a part, empty means the whole agent."""
        request = RPCS["CheckHealth"].request(service=service)
        try:
            answer = await self._transport.call(
                "CheckHealth", request, deadline=deadline, correlation_id=correlation_id
            )
        except MortiseError as error:
            # The health protocol answers an unknown service with NOT_FOUND, which no operation does without details.
            cause: Any = error.__cause__
            if cause is not None and cause.code().name == "NOT_FOUND":
                return "SERVICE_UNKNOWN"
            raise
        return convert.health_name(answer.status)

    async def close(self) -> None:
        """Closes the connection; calls in flight fail."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
