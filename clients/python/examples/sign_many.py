"""Signs the lines of standard input, many at a time. usage: sign_many.py KEY"""

import asyncio
import sys

import mortise


async def main(key: str) -> None:
    async with mortise.AsyncClient() as client:
        lines = [line.rstrip("\n") for line in sys.stdin]
        for signed in await asyncio.gather(*(client.sign(key, line.encode()) for line in lines)):
            print(signed.jws)


asyncio.run(main(sys.argv[1]))
