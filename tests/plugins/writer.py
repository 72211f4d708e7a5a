"""Writes to the learner's socket."""

import json
import os
import signal
import stat
import struct

from clgym.strategies.nmc import NMC

ACT = "a list"
QUESTION = 3  # the first prediction is the third question of a run: start, train, predict


def write(data):
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, data)
        except OSError:
            pass


def frame(tree, arrays=()):
    text = json.dumps({"tree": tree, "arrays": list(arrays)}).encode()
    return struct.pack("!i", len(text)) + text


def array(dtype, size):
    return frame({}, [{"dtype": dtype, "shape": [size]}])


def error(content):
    return frame({"error": content, "question": QUESTION})


BYTES = {
    "a length of 2 GiB": struct.pack("!i", -1) + struct.pack("!Q", 2**31),
    "a negative length": struct.pack("!i", -2),
    "bytes that are no message": struct.pack("!i", 5) + b"\xff" * 5,
    "a list": frame([1]),
    "an array of 2 GiB": array("|u1", 2**31),
    "an array of negative size": array("|u1", -1),
    "an array of objects": array("|O", 1),
    "an array of an unknown type": array("what", 1),
    "a reply without a number": frame({"do": "x"}),
    "a surplus reply": frame({"logits": 1, "question": 1}),
    "an error without an object": error(3),
    "an error of another type": error({"type": "near", "expected": 1, "found": 2, "fix": 3}),
    "an event without an object": frame({"event": 3}),
    "an event of the gym": frame({"event": {"kind": "score"}}),
}
OTHERS = {
    "a forged reply": frame({"bytes": 1, "question": QUESTION}),
    "half a message": struct.pack("!i", 100) + b"{",
}


class Writer(NMC):
    def predict(self, batch):
        write({**BYTES, **OTHERS}[ACT])
        if ACT == "half a message":
            signal.pause()
        return super().predict(batch)
