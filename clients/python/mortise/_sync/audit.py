"""Reading and verifying the tenant's audit log."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

from .. import _convert as convert
from .. import types as t
from .._messages import RPCS
from ..errors import MortiseError
from .transport import Transport

# One streaming call lasts this long; tail then goes on with the next one.
_STREAM_S = 60.0


class AuditOperations:
    """The audit log of the caller's tenant on this host."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def records(
        self,
        *,
        start: int = 0,
        newest: bool = False,
        page_size: int = 0,
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.AuditPage:
        """Records by position, oldest first: from `start`, or the newest ones.

        :raises MortiseError: AUDIT_CORRUPT where a record does not verify; its message has the position
        """
        request = RPCS["ListRecords"].request(page_size=page_size, newest=newest, **{"from": start})
        answer = self._transport.call(
            "ListRecords", request, deadline=deadline, correlation_id=correlation_id
        )
        return t.AuditPage(tuple(convert.audit_record(row) for row in answer.records), answer.size)

    def tail(
        self, *, start: int | None = None, deadline: float | None = None, correlation_id: str | None = None
    ) -> Iterator[t.AuditRecord]:
        """Records as they are committed, each exactly once and in order, also over a restart of the agent.

        :param start: first position; without it only records that are new
        :param deadline: seconds after which the iteration ends; without it, it goes on until it is left
        """
        correlation_id = correlation_id or str(uuid.uuid4())
        ends_at = float("inf") if deadline is None else time.monotonic() + deadline
        at = start
        if at is None:
            at = (self.records(newest=True, page_size=1, correlation_id=correlation_id)).size
        failures = 0
        while time.monotonic() < ends_at:
            request = RPCS["TailRecords"].request(**{"from": at})
            lasts = min(_STREAM_S, ends_at - time.monotonic())
            try:
                for answer in self._transport.stream(
                    "TailRecords", request, deadline=lasts, correlation_id=correlation_id
                ):
                    failures = 0
                    for row in answer.records:
                        at = row.index + 1
                        yield convert.audit_record(row)
                continue
            except MortiseError as error:
                if error.code == "DEADLINE_EXCEEDED":
                    continue
                failures += 1
                may_go_on = error.retryable or (error.code == "TOKEN_EXPIRED" and failures == 1)
                if not may_go_on or failures >= self._transport.retry.max_attempts:
                    raise
                delay = self._transport.retry.delay_before(failures, error)
            time.sleep(min(delay, max(0.0, ends_at - time.monotonic())))

    def checkpoint(
        self, *, deadline: float | None = None, correlation_id: str | None = None
    ) -> t.Checkpoint:
        """The newest signed checkpoint (C2SP tlog-checkpoint) and the public JWK that verifies it."""
        answer = self._transport.call(
            "GetCheckpoint", RPCS["GetCheckpoint"].request(), deadline=deadline, correlation_id=correlation_id
        )
        return t.Checkpoint(answer.checkpoint, answer.public_jwk)

    def receipt(
        self,
        event_id: str,
        *,
        wait_ms: int = 5000,
        countersigned: bool = False,
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.Receipt:
        """The receipt of a record, by the event id that its answer's envelope has.

        :param wait_ms: how long to wait for a checkpoint that covers the record, at most 10000
        :param countersigned: take only a checkpoint that the registry has countersigned
        :raises MortiseError: RECEIPT_PENDING (retryable) where none covers it yet, RECORD_UNKNOWN
        """
        request = RPCS["GetReceipt"].request(
            event_id=event_id, wait_ms=wait_ms, countersigned=countersigned
        )
        answer = self._transport.call(
            "GetReceipt", request, deadline=deadline, correlation_id=correlation_id
        )
        return t.Receipt(
            answer.proof, answer.record, answer.mac, answer.public_jwk, answer.countersigned
        )

    def verify(
        self, *, trusted_checkpoint: str = "", deadline: float | None = None, correlation_id: str | None = None
    ) -> t.LogVerification:
        """Has the agent verify the whole log: every MAC, the order, the tree and every checkpoint.

        :param trusted_checkpoint: one kept from before, which the log must extend
        """
        request = RPCS["VerifyLog"].request(trusted_checkpoint=trusted_checkpoint)
        return convert.log_verification(
            self._transport.call("VerifyLog", request, deadline=deadline, correlation_id=correlation_id)
        )
