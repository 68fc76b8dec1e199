"""Makes mortise/_sync from mortise/_async, so that both clients are one text.

usage: unasync.py [--check]      with --check it changes nothing and fails where they differ
"""

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent / "mortise"

# In order; each replaces whole words.
WORDS = [
    (r"async with", "with"),
    (r"async for", "for"),
    (r"async def", "def"),
    (r"await ", ""),
    (r"grpc\.aio", "grpc"),
    (r"asyncio\.sleep", "time.sleep"),
    (r"asyncio\.Lock", "threading.Lock"),
    (r"AsyncIterator", "Iterator"),
    (r"AsyncIterable", "Iterable"),
    (r"__aiter__", "__iter__"),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"Async([A-Z]\w+)", r"\1"),
]


# Pieces that only one of the two needs stand between these marks.
ASYNC_ONLY = re.compile(r"^ *# async only\n.*?^ *# end\n", re.M | re.S)


def synchronous(text: str) -> str:
    text = ASYNC_ONLY.sub("", text)
    for pattern, word in WORDS:
        text = re.sub(rf"(?<![\w.]){pattern}", word, text)
    return text.replace("import asyncio\n", "import threading\n" if "threading." in text else "")


def main() -> int:
    stale = []
    for source in sorted((PACKAGE / "_async").glob("*.py")):
        target = PACKAGE / "_sync" / source.name
        text = synchronous(source.read_text())
        if source.name == "__init__.py":
            text = '"""The blocking client, made from `_async` by `unasync.py`: change that one."""\n'
        if target.exists() and target.read_text() == text:
            continue
        stale.append(target.name)
        if "--check" not in sys.argv:
            target.parent.mkdir(exist_ok=True)
            target.write_text(text)
    if "--check" in sys.argv and stale:
        print(f"not what unasync.py makes: {', '.join(stale)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
