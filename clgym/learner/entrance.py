"""The learner's side of a run: it trains, predicts and saves when the gym asks.

It lives in a worker process. It maps the images, is told rows and training labels of one
experience at a time, and answers with logits. A label of a test row never enters this process.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clgym.config import values_of
from clgym.data.images import Images
from clgym.errors import BadConfig
from clgym.learner.adaptation import Passes, offered, prepared
from clgym.learner.assembly import config_fields, known_failures, make_strategy, strategy_class
from clgym.learner.generators import (
    generator_states,
    seed_generators,
    set_generators,
    untouched_generators,
)
from clgym.learner.peak_memory import forget_peak, peak_bytes
from clgym.learner.replies import checked_costs, checked_count, checked_logits
from clgym.learner.state import read_state, write_state
from clgym.models.backbones import identify
from clgym.models.features import FrozenFeatures, Rows
from clgym.strategy import Batch, Experience, Memory, StreamInfo

__all__ = ["Learner", "info_from"]

Message = dict[str, Any]
_EVENT_SECONDS = 0.2


def info_from(facts: Message, memory: Memory) -> StreamInfo:
    """What a strategy may know beforehand, from the gym's plain facts."""
    return StreamInfo(
        image_shape=tuple(facts["image_shape"]),
        setting=facts["setting"],
        device=torch.device(facts["device"]),
        seed=facts["seed"],
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        total_columns=facts["total_columns"],
        single_pass=facts["single_pass"],
        memory=memory,
    )


class Learner:
    """Answers the gym's messages; ``handle`` is its one entrance."""

    def __init__(self, emit: Callable[[Message], None]) -> None:
        """``emit`` sends an event to the gym while a message is being worked on."""
        self._emit = emit

    def handle(self, message: Message) -> Message:
        """Do what ``message["do"]`` says and reply."""
        actions = {
            "describe": self._describe,
            "start": self._start,
            "train": self._train,
            "predict": self._predict,
            "adapt": self._adapt,
            "save": self._save,
            "load": self._load,
        }
        return actions[message["do"]](message)

    def _describe(self, message: Message) -> Message:
        """Fields of the config and known failures, given what is known; of a whole one, its needs.

        Raises:
            BadConfig: the device that is asked for cannot be used.
        """
        name, plugins = message["strategy"], message["plugins"]
        if message["config"] is None:
            cls, given = strategy_class(name, plugins), message["given"]
            fields = [vars(field) for field in config_fields(cls, given, plugins)]
            return {"fields": fields, "known_failures": known_failures(cls, given, plugins)}
        _device(message["device"])
        needs = make_strategy(name, message["config"], plugins).needs
        reply = {"needs": {**vars(needs), "settings": list(needs.settings), "backbone": None}}
        if needs.backbone is None:
            return reply
        root = message.get("data_root")
        identity = identify(needs.backbone, root and Path(root))
        # The record names weights by their hash, where the user may have given a path.
        given = message["config"].items()
        renamed = {key: identity.name for key, value in given if value == needs.backbone.name}
        return {**reply, "backbone": asdict(identity), "renamed": renamed}

    def _start(self, message: Message) -> Message:
        """Build the strategy for one stream."""
        device = _device(message["info"]["device"])
        torch.set_num_threads(message["threads"])
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        forget_peak()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._strategy = make_strategy(message["strategy"], message["config"], message["plugins"])
        memory = Memory(self._strategy.needs.memory)
        self._info = info_from(message["info"], memory)
        self._facts = message["info"]
        # One range for all sources: a memory mixes their pixels.
        largest = max((source["max_value"] for source in message["sources"]), default=1)
        self._scale = 1.0 / largest
        channels = self._info.image_shape[0]
        self._images = {
            (number, split): Images(
                Path(source[split]),
                message["resize"],
                device,
                channels,
                largest / source["max_value"],
            )
            for number, source in enumerate(message["sources"])
            for split in ("train", "test")
        }
        self._features = self._frozen_features(message, device)
        facts, self._passes = self._offer(message, device)
        self._seed(-1)
        self._strategy.setup(self._info)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        return {"config": values_of(self._strategy.config), "device_name": name, **facts}

    def _frozen_features(self, message: Message, device: torch.device) -> FrozenFeatures | None:
        """What fills `Batch.features`, for a strategy that asked for it."""
        needs = self._strategy.needs
        if not needs.features:
            return None
        assert needs.backbone is not None
        splits = {
            (number, split): Rows(
                images,
                (message["sources"][number]["fingerprint"], split, message["resize"]),
                self._scale,
            )
            for (number, split), images in self._images.items()
        }
        return FrozenFeatures(needs.backbone, device, splits, self._emit)

    def _offer(self, message: Message, device: torch.device) -> tuple[Message, Passes | None]:
        """Add to the info what an adaptation stream offers; the classifier's facts, its counter."""
        if self._info.setting != "adaptation":
            return {}, None
        self._resize, self._scale = message["resize"], 1 / 255  # what comes over the wire
        needs, report = self._strategy.needs, self._reporter()
        given, facts, passes = offered(message, needs, device, report)
        self._info = replace(self._info, **given)
        return {"classifier": facts}, passes

    def _seed(self, experience: int) -> None:
        """Key the global generators by (seed, experience): a resumed run draws the same numbers."""
        seed_generators(self._info.seed, experience + 1)

    def _train(self, message: Message) -> Message:
        """Train on one experience, from its beginning or from a state saved inside it."""
        started, index = time.perf_counter(), message["index"]
        self._seed(index)
        if message["resume"]:
            self._restore(read_state(Path(message["resume"])))
        clock = _Clock(message["checkpoint_seconds"])

        def save_here() -> None:
            if clock.due():
                self._write(Path(message["checkpoint"]))
                self._emit({"kind": "checkpoint", "experience": index})

        experience = self._experience(message, save_here)
        try:
            self._strategy.train(experience)
        finally:
            experience.close()
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "images": experience.images}

    def _experience(self, message: Message, save_here: Callable[[], None]) -> Experience:
        pixels, groups = self._gather(message, "train"), message["groups"]
        features = None
        if self._features is not None:
            where = np.repeat(np.arange(len(groups)), [group["count"] for group in groups])
            trained = [{**group, "split": "train"} for group in groups]
            features = self._features.of(trained, message["rows"], where)
        return Experience(
            message["index"],
            pixels,
            torch.from_numpy(message["labels"]).to(pixels.device),
            classes=tuple(message["classes"]),
            columns=message["columns"],
            seed=self._info.seed,
            scale=self._scale,
            task=message["task"],
            task_columns=tuple(tuple(columns) for columns in message["task_columns"]),
            single_pass=self._info.single_pass,
            report=self._reporter(),
            safe_point=save_here,
            features=features,
        )

    def _reporter(self) -> Callable[[Message], None]:
        clock = _Clock(_EVENT_SECONDS)

        def report(event: Message) -> None:
            if clock.due() or event.get("step") == event.get("steps"):
                self._emit({"kind": "train", **event})

        return report

    def _gather(self, message: Message, split: str) -> Tensor:
        """Pixels of a message's rows, which come group by group: (source, transform, count)."""
        parts, start = [], 0
        for group in message["groups"]:
            rows = message["rows"][start : start + group["count"]]
            start += group["count"]
            transform = group["transform"] and tuple(group["transform"])
            parts.append(self._images[group["source"], split].gather(rows, transform))
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def _predict(self, message: Message) -> Message:
        """Logits of some test rows, float32 [n, columns], in the order given.

        ``message["where"]`` names each row's group; a batch may mix groups, since the rows of a
        shuffled pool arrive as they come.
        """
        started, size = time.perf_counter(), message["batch_size"]
        rows, where, columns = message["rows"], message["where"], message["columns"]
        logits = np.empty((len(rows), columns), dtype=np.float32)
        features = self._known(message)
        clock = _Clock(_EVENT_SECONDS)
        with torch.no_grad(), untouched_generators(self._info.device):
            for start in range(0, len(rows), size):
                part = slice(start, start + size)
                known = None if features is None else features[part]
                batch = self._test_batch(rows[part], where[part], known, message)
                answer = self._strategy.predict(batch)
                logits[part] = checked_logits(answer, "predict", len(batch), columns)
                if clock.due():
                    self._emit({"kind": "predict", "images": start, "total": len(rows)})
        return {"logits": logits, "seconds": time.perf_counter() - started}

    def _adapt(self, message: Message) -> Message:
        """Answer one unlabelled batch and learn from it: logits, float32 [n, columns].

        Draws are keyed by the batch's number, so that a resumed run goes on alike.
        """
        started = time.perf_counter()
        self._seed(message["number"])
        if message["reset"]:
            self._strategy.reset()
        passes = self._passes
        before = (passes.forward, passes.backward) if passes else (0, 0)
        images = prepared(message["images"], self._resize, self._info.device)
        answer = self._strategy.adapt(Batch(images))
        logits = checked_logits(answer, "adapt", len(images), message["columns"])
        after = (passes.forward, passes.backward) if passes else (0, 0)
        return {
            "logits": logits,
            "seconds": time.perf_counter() - started,
            "forward": after[0] - before[0],
            "backward": after[1] - before[1],
        }

    def _known(self, message: Message) -> Tensor | None:
        """Features of all rows: computed batch by batch, most would go in padded batches."""
        if self._features is None:
            return None
        return self._features.of(message["groups"], message["rows"], message["where"])

    def _test_batch(
        self, rows: np.ndarray, where: np.ndarray, features: Tensor | None, message: Message
    ) -> Batch:
        images: Tensor | None = None
        for number in np.unique(where):
            group, places = message["groups"][number], np.flatnonzero(where == number)
            transform = group["transform"] and tuple(group["transform"])
            pixels = self._images[group["source"], group["split"]].gather(rows[places], transform)
            part = pixels.float().mul_(self._scale)
            if len(places) == len(rows):
                images = part
            else:
                images = part.new_empty((len(rows), *part.shape[1:])) if images is None else images
                images[torch.from_numpy(places).to(part.device)] = part
        assert images is not None
        return Batch(images, task=message["task"], features=features)

    def _save(self, message: Message) -> Message:
        """Write the state at an experience's boundary; the reply holds its size."""
        return {"bytes": self._write(Path(message["path"])), **self._sizes()}

    def _write(self, path: Path) -> int:
        state = {
            "strategy": self._strategy.state_dict(),
            "memory": self._info.memory.state_dict(),
            "generators": generator_states(self._info.device),
            "facts": {**self._facts, "scale": self._scale},
        }
        return len(write_state(path, state))

    def _load(self, message: Message) -> Message:
        self._restore(read_state(Path(message["path"])))
        return {}

    def _restore(self, state: Message) -> None:
        self._info.memory.load_state_dict(state["memory"], self._info.device)
        self._strategy.load_state_dict(state["strategy"])
        set_generators(state["generators"], self._info.device)

    def _sizes(self) -> Message:
        device, strategy = self._info.device, self._strategy
        on_gpu = device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(device) if on_gpu else peak_bytes()
        return {
            "parameters": checked_count(strategy.parameter_count()),
            "stored_samples": len(self._info.memory),
            "peak_memory_bytes": peak,
            "own_costs": checked_costs(strategy.costs()),
        }


class _Clock:
    """Says when so many seconds have passed since it last said so."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last = seconds, time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        return device
    except (RuntimeError, AssertionError) as error:
        raise BadConfig(
            expected="a device that torch can use here",
            found=f"{name!r} ({str(error).partition('. ')[0]})",
            fix="Give --device cpu, or one that `torch.cuda.is_available()` knows",
        ) from None
