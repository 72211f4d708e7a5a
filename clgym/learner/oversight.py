"""Observation of a strategy: what it keeps, and what its predictions depend on."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor

from clgym.data.to_device import to_device
from clgym.learner.holdings import Bookkeeper
from clgym.learner.kept_images import Signatures, SignatureState, StreamSignatures
from clgym.learner.reachable import arrays_in, roots_of
from clgym.messages import Holdings, Start
from clgym.models.backbones import Backbone
from clgym.strategy import Batch, Strategy, StreamInfo

__all__ = ["Oversight"]


class Oversight:
    """Searches a strategy for images of the stream, and counts what it holds."""

    def __init__(self, strategy: Strategy, info: StreamInfo, request: Start, scale: float) -> None:
        """Begin with a strategy after its setup.

        Args:
            strategy: Strategy to observe.
            info: Argument of its setup.
            request: Message that names the stream.
            scale: Factor that turns stored pixels into [0, 1].
        """
        self._strategy, self._info, self._compiles = strategy, info, request.numerics.compile
        self._books, self._is_fresh = Bookkeeper(), True
        self.flops_per_image: float | None = None
        """Number of floating-point operations per image of the last observed batch."""
        self._signatures = _blank_signatures(strategy, info, request, scale)

    def note_experience(self, index: int, pixels: Tensor) -> None:
        """Compute signatures of the images that the strategy is about to train on."""
        self._books.forget()
        self._is_fresh = True
        if self._signatures is not None:
            self._signatures.note(index, len(pixels), partial(_rows_of, pixels))

    def predict(self, batch: Batch) -> Tensor:
        """Call `Strategy.predict`; the first call after training is observed."""
        return self._observed(partial(self._strategy.predict, batch), batch)

    def represent(self, batch: Batch) -> Tensor:
        """Call `Strategy.represent`, observed in the same way as `predict`."""
        return self._observed(partial(self._strategy.represent, batch), batch)

    def _observed(self, ask: Callable[[], Tensor], batch: Batch) -> Tensor:
        if not self._is_fresh:
            return ask()
        self._is_fresh = False
        features = batch.features
        with self._uncompiled():
            answer = self._books.observe(self._strategy, ask, learns=False, features=features)
        self.flops_per_image = self._books.flops / len(batch)
        return answer

    def adapt(self, images: Tensor, number: int, ask: Callable[[], Tensor]) -> Tensor:
        """Call `Strategy.adapt` for batch ``number``, counted from 0.

        Some batches are observed, since a strategy may predict in another way after some time.
        """
        if isinstance(self._signatures, StreamSignatures):
            self._signatures.note_batch(images)
        if number & (number + 1):
            return ask()
        with self._uncompiled():
            answer = self._books.observe(self._strategy, ask, learns=True)
        self.flops_per_image = self._books.flops / len(images)
        return answer

    def _uncompiled(self) -> AbstractContextManager[object]:
        """Call compiled networks as they are, since the operations of compiled code are not seen.

        The compiler would try to compile the observation, too.
        """
        return torch.compiler.set_stance("force_eager") if self._compiles else nullcontext()

    def holdings(self) -> Holdings:
        """Count what the strategy holds."""
        return self._books.count(self._strategy, self._info.memory)

    def kept_images(self, *aside: object) -> dict[str, int]:
        """Number of images of the stream that the strategy holds outside its memory, by place.

        Args:
            aside: Objects and classes that the search leaves out.
        """
        if self._signatures is None:
            return {}
        # weights of pretraining, which are large and never written
        frozen = vars(self._strategy).get("backbone")
        weights = frozen.parameters() if isinstance(frozen, Backbone) else ()
        memory = self._info.memory
        arrays = arrays_in(roots_of(self._strategy), [memory, *aside, *weights])
        declared = arrays_in({"memory": memory})
        return {kept.place: kept.images for kept in self._signatures.find(arrays, declared)}

    def signatures(self) -> SignatureState | None:
        """The signatures so far, for a state file; None if there is nothing to search for."""
        return None if self._signatures is None else self._signatures.state_dict()

    def serving(self) -> list[str]:
        """The places that predictions depend on, for a state file."""
        return self._books.state_dict()

    def restore(self, signatures: SignatureState, serving: list[str]) -> None:
        """Continue from `signatures` and `serving`."""
        self._books.load_state_dict(serving)
        if self._signatures is not None:
            self._signatures.load_state_dict(signatures)


def _blank_signatures(
    strategy: Strategy, info: StreamInfo, request: Start, scale: float
) -> Signatures | None:
    """Empty signatures; None for joint training, in which past images are allowed."""
    if strategy.needs.past_data:
        return None
    if request.adaptation is None:
        return Signatures(info.image_shape, 1 / scale, info.mean, info.std)
    # On streams with batch size 1 the most recent images, a window, form the batch.
    size = request.adaptation.batch_size
    latest = getattr(strategy.config, "window", 1) if size == 1 else size
    return StreamSignatures(info.image_shape, info.mean, info.std, latest)


def _rows_of(pixels: Tensor, places: np.ndarray) -> np.ndarray:
    return pixels[to_device(torch.as_tensor(places), pixels.device)].cpu().numpy()
