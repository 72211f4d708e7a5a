"""What is seen of a strategy at work: what it keeps, and what its answers come from."""

from collections.abc import Callable
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
    """Looks for images of the stream in a strategy's reach, and counts what it holds."""

    def __init__(self, strategy: Strategy, info: StreamInfo, request: Start, scale: float) -> None:
        """Begin with a strategy that was set up.

        Args:
            strategy: Whom to look at.
            info: What it was set up with.
            request: The stream.
            scale: Factor that turns stored pixels into [0, 1].
        """
        self._strategy, self._info = strategy, info
        self._books, self._is_fresh = Bookkeeper(), True
        self.flops_per_image: float | None = None
        """Floating-point operations for each image of the last batch that was observed."""
        self._signatures = _blank_signatures(strategy, info, request, scale)

    def note_experience(self, index: int, pixels: Tensor) -> None:
        """Take signatures of the images that the strategy is about to train on."""
        self._books.forget()
        self._is_fresh = True
        if self._signatures is not None:
            self._signatures.note(index, len(pixels), partial(_rows_of, pixels))

    def predict(self, batch: Batch) -> Tensor:
        """An answer of `Strategy.predict`; the first after training shows where it comes from."""
        return self._observed(partial(self._strategy.predict, batch), batch)

    def represent(self, batch: Batch) -> Tensor:
        """Features of `Strategy.represent`, observed as answers of `predict` are."""
        return self._observed(partial(self._strategy.represent, batch), batch)

    def _observed(self, ask: Callable[[], Tensor], batch: Batch) -> Tensor:
        if not self._is_fresh:
            return ask()
        self._is_fresh = False
        features = batch.features
        answer = self._books.observe(self._strategy, ask, learns=False, features=features)
        self.flops_per_image = self._books.flops / len(batch)
        return answer

    def adapt(self, images: Tensor, number: int, ask: Callable[[], Tensor]) -> Tensor:
        """An answer of `Strategy.adapt` to batch ``number``, counted from 0.

        It is observed now and then: a strategy may answer by other means after some batches.
        """
        if isinstance(self._signatures, StreamSignatures):
            self._signatures.note_batch(images)
        if number & (number + 1):
            return ask()
        answer = self._books.observe(self._strategy, ask, learns=True)
        self.flops_per_image = self._books.flops / len(images)
        return answer

    def holdings(self) -> Holdings:
        """Count what the strategy holds."""
        return self._books.count(self._strategy, self._info.memory)

    def kept_images(self, *aside: object) -> dict[str, int]:
        """Images of the stream that lie in the strategy's reach besides those in its memory.

        Args:
            aside: Objects and classes that the walk leaves out.
        """
        if self._signatures is None:
            return {}
        frozen = vars(self._strategy).get("backbone")  # of pretraining; large, and never written
        weights = frozen.parameters() if isinstance(frozen, Backbone) else ()
        memory = self._info.memory
        arrays = arrays_in(roots_of(self._strategy), [memory, *aside, *weights])
        declared = arrays_in({"memory": memory})
        return {kept.place: kept.images for kept in self._signatures.find(arrays, declared)}

    def signatures(self) -> SignatureState | None:
        """The signatures so far, for a state file; None where there is nothing to look for."""
        return None if self._signatures is None else self._signatures.state_dict()

    def serving(self) -> list[str]:
        """The places that answers depend on, for a state file."""
        return self._books.state_dict()

    def restore(self, signatures: SignatureState, serving: list[str]) -> None:
        """Go on from `signatures` and `serving`."""
        self._books.load_state_dict(serving)
        if self._signatures is not None:
            self._signatures.load_state_dict(signatures)


def _blank_signatures(
    strategy: Strategy, info: StreamInfo, request: Start, scale: float
) -> Signatures | None:
    """None where past images are not out of reach: joint training."""
    if strategy.needs.past_data:
        return None
    if request.adaptation is None:
        return Signatures(info.image_shape, 1 / scale, info.mean, info.std)
    # On streams that bring single images the last ones, a window of them, form the batch.
    size = request.adaptation.batch_size
    latest = getattr(strategy.config, "window", 1) if size == 1 else size
    return StreamSignatures(info.image_shape, info.mean, info.std, latest)


def _rows_of(pixels: Tensor, places: np.ndarray) -> np.ndarray:
    return pixels[to_device(torch.as_tensor(places), pixels.device)].cpu().numpy()
