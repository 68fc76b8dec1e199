"""Encrypts a file of any size in constant memory. usage: encrypt_file.py KEY SOURCE TARGET"""

import os
import sys
from collections.abc import Iterator

import mortise


def pieces(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(256 * 1024):
            yield piece


key, source, target = sys.argv[1:]
with mortise.Client() as client:
    unfinished = f"{target}.part"
    with open(unfinished, "wb") as file:
        for piece in client.streams.encrypt(key, pieces(source)):
            file.write(piece)
    # Only a stream that ended by itself is whole; one that raised has left nothing under the target's name.
    os.replace(unfinished, target)
