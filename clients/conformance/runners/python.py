"""Runner of the Python client. usage: python.py blocking | asyncio"""

import asyncio
import base64
import dataclasses
import inspect
import json
import sys
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "python"))

import mortise  # noqa: E402


def decoded(value, name=""):
    if isinstance(value, dict) and set(value) == {"base64"}:
        return base64.b64decode(value["base64"])
    if name in ("recipients", "add"):
        return [mortise.Recipient(**row) for row in value]
    if name == "limits":
        return mortise.KeyLimits(**value)
    if name == "grants":
        return [mortise.Grant(**row) for row in value]
    if name == "activation_time":
        return datetime.fromisoformat(value)
    return value


def encoded(value):
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value):
        return {field.name: encoded(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [encoded(row) for row in value]
    return value


def connect_options(options):
    made = {}
    if "socket" in options:
        made["socket"] = options["socket"]
    if "token" in options:
        made["token"] = options["token"]
    if "token_file" in options:
        made["token"] = mortise.TokenFile(options["token_file"])
    if "deadline_ms" in options:
        made["deadline"] = options["deadline_ms"] / 1000
    if "max_attempts" in options:
        made["retry"] = mortise.Retry(max_attempts=options["max_attempts"])
    return made


async def settled(value):
    return await value if inspect.isawaitable(value) else value


async def gathered(items, count=None):
    """All items of an iterable of either kind, or the first ones."""
    found = []
    if hasattr(items, "__aiter__"):
        async for item in items:
            found.append(item)
            if len(found) == count:
                break
    else:
        for item in items:
            found.append(item)
            if len(found) == count:
                break
    close = getattr(items, "aclose", None) or getattr(items, "close", None)
    if close is not None:
        await settled(close())
    return found


def blocking_pieces(data):
    # Sizes that fit no limit of the protocol, so that the client has to cut.
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


async def async_pieces(data):
    for piece in blocking_pieces(data):
        yield piece


async def perform(client, name, arguments):
    options = {key: decoded(value, key) for key, value in arguments.items()}
    if "deadline_ms" in options:
        options["deadline"] = options.pop("deadline_ms") / 1000
    method = client
    for part in name.split("."):
        method = getattr(method, part)
    if name.startswith("streams."):
        data = options.pop("data")
        is_async = isinstance(client, mortise.AsyncClient)
        options["source"] = async_pieces(data) if is_async else blocking_pieces(data)
        made = await settled(method(**options))
        if not isinstance(made, (mortise.DataStream, mortise.AsyncDataStream)):
            return encoded(made)
        data = b"".join(await gathered(made))
        return {"data": encoded(data), "envelope": encoded(made.envelope), "source_key_used": encoded(made.source_key_used)}
    count = options.pop("count", None)
    made = method(**options)
    if name in ("keys.list", "audit.tail"):
        return {"value": encoded(await gathered(made, count))}
    answer = encoded(await settled(made))
    return answer if isinstance(answer, dict) and "base64" not in answer else {"value": answer}


async def answer_to(line, state):
    if "connect" in line:
        if state.get("client") is not None:
            await settled(state["client"].close())
        state["client"] = state["kind"](**connect_options(line["connect"]))
        return {"answer": {}}
    try:
        return {"answer": await perform(state["client"], line["call"], line["arguments"])}
    except mortise.MortiseError as error:
        return {
            "error": {
                "code": error.code,
                "reason": error.reason,
                "message": error.message,
                "retryable": error.retryable,
                "fields": encoded(error.fields),
                "metadata": error.metadata,
                "retry_after_ms": error.retry_after_ms,
                "correlation_id": error.correlation_id,
            }
        }


async def main():
    state = {"kind": {"blocking": mortise.Client, "asyncio": mortise.AsyncClient}[sys.argv[1]]}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await answer_to(json.loads(line), state)), flush=True)
    if state.get("client") is not None:
        await settled(state["client"].close())


asyncio.run(main())
