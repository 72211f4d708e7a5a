"""Order in which test rows are sent, keyed by a secret that the learner cannot compute.

If the order depended on the seed that a strategy knows, counting images in `predict` would reveal
each image's experience. The key is an HMAC of the run under a secret of this installation: the same
command gives the same order here, with any number of workers and after an interruption. The record
of the finished run states the key, so that the run can be repeated elsewhere in the same order.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import numpy as np
import platformdirs

from clgym.errors import BadOutput
from clgym.files import part_name, writing

__all__ = ["order_key", "permutation", "state_folder"]

_BYTES = 32


def order_key(run_key: str) -> str:
    """Key of a run's orders, hexadecimal.

    Args:
        run_key: What determines the run, `clgym.gym.plan.ResolvedRun.order_source`.

    Raises:
        BadOutput: The secret can be neither read nor written.
    """
    return hmac.new(_secret(), run_key.encode(), hashlib.sha256).hexdigest()


def permutation(key: str, count: int, *place: int | None) -> np.ndarray:
    """A permutation of ``count`` rows, int64, that follows from the key and a place in the run."""
    digest = hmac.new(bytes.fromhex(key), repr(place).encode(), hashlib.sha256).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32)).permutation(count)


def _secret() -> bytes:
    """The installation's secret, made at first use; readable by its owner only."""
    file = state_folder() / "secret"
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not file.is_file():
            part = file.with_name(part_name(file.name))
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(secrets.token_bytes(_BYTES))
                opened.flush()
                os.fsync(descriptor)
            try:
                # if several first runs start at once, one wins, and all use its secret
                os.link(part, file)
            except FileExistsError:
                pass
            finally:
                part.unlink()
        secret = file.read_bytes()
    if len(secret) != _BYTES:
        raise BadOutput(
            expected=f"a secret of {_BYTES} bytes in {file}",
            found=f"{len(secret)} bytes",
            fix="Delete the file; runs that are not finished then begin anew",
        )
    return secret


def state_folder() -> Path:
    """Folder of this installation's secret, which no learner may read."""
    given = os.environ.get("CLGYM_STATE")
    return Path(given).expanduser() if given else Path(platformdirs.user_state_dir("clgym"))
