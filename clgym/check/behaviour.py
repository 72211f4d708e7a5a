"""Checks of a strategy's behaviour: each runs it on tiny streams and compares predictions."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from clgym.check.bench import Subject
from clgym.check.report import Failed, Skipped
from clgym.check.retention import held_by
from clgym.check.simulator import Simulator
from clgym.check.tiny import MAX_VALUE
from clgym.errors import BadAnswer, ClgymError
from clgym.messages import CheckpointSaved, Event

__all__ = [
    "batch_independence",
    "devices",
    "no_labels",
    "one_image_class",
    "one_sample_batch",
    "other_seed",
    "past_data",
    "predict_keeps_state",
    "resume",
    "runs",
    "same_seed",
    "state_round_trip",
    "unseen_classes",
]

_SCALES = (
    (1.0, 0.0),
    (1 / MAX_VALUE, 0.0),
    (2 / MAX_VALUE, -1.0),
)
"""Pixel scales as (factor, offset): as stored, in [0, 1], and in [-1, 1]."""

_NUMBERS_AN_IMAGE = 4
"""Maximum number of values that a strategy may keep per image: a label or a loss, but not its
features."""


def unseen_classes(subject: Subject) -> str:
    """Logits have a column for every class seen so far, and none for later ones."""
    _learning(subject, "all classes of an adaptation stream are known from the start")
    if subject.setting == "pretraining":
        raise Skipped("a pretraining stream asks for features, not for logits")
    bench = subject.bench()
    for index in range(len(bench.stream)):
        bench.train(index)
        bench.shapes = []
        bench.predict(index)
        columns = bench.stream.columns_after(index)
        for shape in bench.shapes:
            if len(shape) != 2 or shape[1] != columns:
                raise Failed(
                    f"logits of shape {shape} when {columns} classes have been seen",
                    "Return logits[:, :experience.columns] of the last experience trained",
                )
    return "one column for every class seen, after each experience"


def runs(subject: Subject) -> str:
    """The strategy trains, predicts and saves over a whole stream."""
    answers = subject.baseline
    if not subject.adapts:
        subject.trained.state()
    steps = "batches" if subject.adapts else "experiences"
    rows = sum(map(len, answers))
    return f"{len(answers)} {steps} of one {subject.setting} stream, {rows} answers"


def same_seed(subject: Subject) -> str:
    """The same seed gives the same predictions, bit by bit."""
    torch.rand(7)  # other code's use of the global generators must not matter
    np.random.rand(7)
    _same(
        subject.baseline,
        subject.bench().whole(),
        "Draw from self.rng(NAME), or from torch, numpy or random, seeded by the gym",
    )
    return "equal to the bit"


def other_seed(subject: Subject) -> str:
    """Another seed gives other predictions; with ``DETERMINISTIC = True`` the same ones."""
    others = subject.bench(seed=1).whole()
    if subject.cls.DETERMINISTIC:
        _same(subject.baseline, others, "Remove DETERMINISTIC = True")
        return "equal, as DETERMINISTIC declares"
    if all(np.array_equal(a, b) for a, b in zip(subject.baseline, others, strict=True)):
        raise Failed(
            "the same predictions with seeds 0 and 1",
            "Do not seed inside the strategy; if it uses no randomness set DETERMINISTIC = True",
        )
    return "other predictions with another seed"


def no_labels(subject: Subject) -> str:
    """Labels on a test batch change nothing: the strategy does not read them."""
    if subject.adapts:
        bench = subject.bench()
        bench.labels = 1
        fix = "Do not read batch.labels: in a run there are none"
        _same(subject.baseline, bench.whole(), fix)
        return "the same predictions with labels on the batches"
    bench = subject.trained
    plain = bench.predict(1)
    try:
        for shift in (0, 1):
            bench.labels = lambda rows, shift=shift: (bench.labels_of(rows) + shift) % 4
            if not np.array_equal(plain, bench.predict(1), equal_nan=True):
                raise Failed(
                    "predictions that change with the labels of the test batch",
                    "Do not read batch.labels in predict: in a run there are none",
                )
    finally:
        bench.labels = None
    return "the same predictions for all labels"


def batch_independence(subject: Subject) -> str:
    """Predictions depend neither on the order of the test rows nor on their batches."""
    bench = subject.trained
    plain = bench.predict(1)
    _learning(subject, "it learns from each batch while it predicts")
    fix = "Treat each image alone in predict: evaluation mode, no statistics of the batch, no draws"
    try:
        for size, seed in ((None, 1), (7, 2), (1, 3)):
            bench.order = lambda n, seed=seed: np.random.RandomState(seed).permutation(n)
            bench.batch_size = size
            _near(plain, bench.predict(1), f"in shuffled batches of {size or 'all'}", fix)
    finally:
        bench.order = bench.batch_size = None
    return "the same predictions when shuffled, in batches of 7 and one by one"


def predict_keeps_state(subject: Subject) -> str:
    """Predicting changes neither the state nor the learning that follows."""
    _learning(subject, "it predicts in adapt, which may change the state")
    fix = "Change nothing in predict; what must adapt at test time belongs into adapt"
    bench = subject.trained
    first, before = bench.predict(1), bench.state()
    if not np.array_equal(first, bench.predict(1), equal_nan=True):
        raise Failed("other predictions when the same rows are predicted again", fix)
    if bench.state() != before:
        raise Failed("another state after predicting", fix)
    silent = subject.bench()
    for index in range(len(silent.stream)):
        silent.train(index)
    last = len(silent.stream) - 1
    _same(subject.baseline[last:], [silent.predict(last)], fix)
    return "the same state, and the same learning with and without predictions"


def state_round_trip(subject: Subject) -> str:
    """A learner restored from a state saved after an experience continues identically."""
    _learning(subject, "the check `resume` covers it: a state is saved after any batch")
    fix = "Put everything that train and predict depend on into state_dict, and restore all of it"
    folder = subject.folder()
    first = subject.bench(out=folder)
    for index in range(2):
        first.train(index)
        first.save(index)
    second = subject.bench(out=folder)
    _same(subject.baseline[1:2], [second.predict(1)], fix)
    second.train(2)
    _same(subject.baseline[2:], [second.predict(2)], fix)
    return f"equal after a state of {len(second.state()):,} bytes"


def resume(subject: Subject) -> str:
    """A run killed inside an experience and started again ends with the same result."""
    if not hasattr(os, "fork"):
        raise Skipped("this system cannot fork")
    subject.setting, subject.baseline  # noqa: B018  # before the fork: both sides need the images
    folder = subject.folder()
    saves = _killed(lambda told: _until_killed(subject, folder, told))
    bench = subject.bench(out=folder)
    if subject.adapts:
        rest = bench.whole()
        _same(
            subject.baseline[-len(rest) :],
            rest,
            "Put everything that adapt depends on into state_dict: weights, moments, counters",
        )
        return f"equal after SIGKILL after batch {len(subject.baseline) - len(rest)}"
    for index in (1, 2):
        bench.train(index)
        _same(
            subject.baseline[index : index + 1],
            [bench.predict(index)],
            "Put the optimizer and the position inside the experience into state_dict, and go on "
            "there in train; or offer no safe_point",
        )
    where = f"at its safe point {saves}" if saves else "before its end (it offers no safe point)"
    return f"equal after SIGKILL inside experience 1, {where}"


def _killed(work: Callable[[int], None]) -> int:
    """Do ``work`` in a forked child that kills itself; return the number of bytes that it wrote."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(write)
        finally:
            os._exit(1)
    os.close(write)
    _, status = os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        told = len(pipe.read())
    if not os.WIFSIGNALED(status):
        raise Failed("a learner that ended before it was killed", "See the check `runs`")
    return told


def _until_killed(subject: Subject, folder: Path, pipe: int) -> None:
    """Die by SIGKILL at the third state saved in experience 1, or at that experience's end."""
    saves = 0

    def listen(event: Event) -> None:
        nonlocal saves
        if isinstance(event, CheckpointSaved) and (event.experience == 1 or subject.adapts):
            saves += 1
            os.write(pipe, b".")
            if saves == 3:
                os.kill(os.getpid(), signal.SIGKILL)

    bench = subject.bench(out=folder, saving=True, on_event=listen)
    if subject.adapts:
        bench.whole()
        return
    bench.train(0)
    bench.save(0)
    bench.train(1)
    os.kill(os.getpid(), signal.SIGKILL)


def past_data(subject: Subject) -> str:
    """No data of past experiences are kept beyond the declared memory."""
    _learning(subject, "there are no training images on an adaptation stream")
    memory = subject.make().needs.memory
    sizes = []
    for count in (8, 16):
        bench = subject.bench(train=count)
        bench.train(0)
        bench.train(1)
        bench.predict(1)
        held = held_by(bench.strategy, bench.train_images(), _SCALES)
        if held.images > memory:
            raise Failed(
                f"{held.images} training images kept after the experience, {memory} declared",
                "Keep samples in info.memory, and declare how many: Needs(memory=...)",
            )
        sizes.append(held.numbers)
    extra = 4 * 8 * _NUMBERS_AN_IMAGE
    if sizes[1] > sizes[0] + extra:
        raise Failed(
            f"{sizes[1] - sizes[0]:,} more numbers kept for 32 more training images",
            "Keep what belongs to single samples in info.memory only",
        )
    return f"at most {memory} images, and no further numbers for twice the data"


def one_sample_batch(subject: Subject) -> str:
    """A last batch of one sample can be used for training and prediction."""
    if subject.adapts:
        bench = subject.bench(test=3)  # 18 images in batches of 8, and then of 1 or 2
        bench.whole()
        return "a last batch of two"
    named = ((name.split(".")[-1], value) for name, value in subject.config.items())
    size = next((v for name, v in named if name == "batch_size" and isinstance(v, int)), 8)
    bench = subject.bench(train=[size + 1, size] * 3)
    _survives(
        bench,
        f"a last batch of 1 (17 rows, batches of {size})",
        "Batch statistics need two samples: skip them, or use running ones, for a batch of one",
    )
    return f"experiences of {2 * size + 1} rows in batches of {size}"


def one_image_class(subject: Subject) -> str:
    """A class with one training image is learned like the others."""
    _learning(subject, "there are no training images on an adaptation stream")
    bench = subject.bench(train=[1, 8, 8, 1, 1, 1])
    _survives(
        bench,
        "a class with one training image",
        "A variance or a split of one image is not defined: handle that case",
    )
    return "classes of one image, both beside others and alone"


def devices(subject: Subject) -> str:
    """The strategy runs on the CPU and, if available, on a GPU; states move between them."""
    if not torch.cuda.is_available():
        raise Skipped("no GPU here; all other checks ran on the CPU")
    if subject.adapts:
        return f"{len(subject.bench(device='cuda').whole())} batches on the GPU"
    folder = subject.folder()
    first = subject.bench(out=folder, device="cuda")
    first.train(0)
    first.save(0)
    on_gpu = first.predict(0)
    second = subject.bench(out=folder)
    _near(on_gpu, second.predict(0), "on the CPU", "Create tensors on info.device", 1e-2)
    return "runs on the CPU and the GPU, and loads the state of one on the other"


def _learning(subject: Subject, reason: str) -> None:
    """Skip a check that does not apply to strategies that learn at test time."""
    if subject.adapts:
        raise Skipped(reason)


def _survives(bench: Simulator, what: str, fix: str) -> None:
    try:
        bench.whole()
    except BadAnswer as error:
        raise Failed(f"{error.found} in the predictions with {what}", fix) from error
    except ClgymError:
        raise
    except Exception as error:
        raise Failed(f"{type(error).__name__}: {error} with {what}", fix) from error


def _same(expected: list[np.ndarray], found: list[np.ndarray], fix: str) -> None:
    for a, b in zip(expected, found, strict=True):
        if not np.array_equal(a, b, equal_nan=True):
            raise Failed(_difference(a, b), fix)


def _near(a: np.ndarray, b: np.ndarray, how: str, fix: str, relative: float = 1e-4) -> None:
    """Compare up to rounding errors: another batch size may use another matrix kernel."""
    scale = np.abs(a[np.isfinite(a)]).max(initial=1.0)
    if not np.allclose(a, b, rtol=relative, atol=relative * scale, equal_nan=True):
        raise Failed(f"{_difference(a, b)} {how}", fix)


def _difference(a: np.ndarray, b: np.ndarray) -> str:
    if a.shape != b.shape:
        return f"predictions of shape {b.shape} instead of {a.shape}"
    apart = np.where(np.isfinite(a) & np.isfinite(b), np.abs(a - b), a != b)
    rows = int((apart.max(axis=1) > 0).sum())
    return f"{rows} of {len(a)} predictions differ, by up to {apart.max():.2g}"
