"""CODA-Prompt: prompts put together from components by attention, grown orthogonally per task.

Smith et al., "CODA-Prompt: COntinual Decomposed Attention-based Prompting for Rehearsal-Free
Continual Learning", CVPR 2023, https://arxiv.org/abs/2211.13218; code GT-RIPL/CODA-Prompt 6417d4f.
In each of the first blocks the prompt is the sum of all components so far, weighted by the cosine
of the query (the frozen network's feature) times a component's attention with its key. Its halves
lengthen keys and values of the block's attention. Of T tasks each owns an equal number of
components; new ones are made orthogonal to those before by one pass of classical Gram-Schmidt, old
ones take no gradient. Cross-entropy over the task's classes, and ``--ortho`` times a
penalty, 0 in the released configurations.

Where the released code differs: ``--schedule released-cosine`` (it lags one epoch), ``--query
augmented``. Like it, this drops an incomplete last batch (``--drop-last``).
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from clgym.config import Search
from clgym.errors import BadConfig
from clgym.models.fitting import session_loss
from clgym.models.prompting import PromptConfig, PromptStrategy
from clgym.models.prompts import Prefix, check_blocks, prefixes_attached, unit
from clgym.models.rates import ScheduleName
from clgym.strategy import Batch, Experience, Needs, StreamInfo, TrainBatch


@dataclass(frozen=True)
class CodaPromptConfig(PromptConfig):
    """Options of `CodaPrompt`; the defaults are the authors' for CIFAR-100."""

    epochs: Annotated[int, Ge(1), Search(3, 5, 10, 15, 20, 25)] = 20
    """Passes over the images of a session."""
    lr: Annotated[float, Gt(0), Search(0.000875, 0.001375, 0.001875, 0.002375, 0.0025)] = 0.001
    """Learning rate at the beginning of a session."""
    batch_size: Annotated[int, Ge(1), Search(8, 16, 24, 48, 64, 128)] = 128
    """Images per batch."""
    drop_last: bool = True
    """Leave out a smaller last batch of an epoch, unless it is the only one."""
    schedule: Annotated[ScheduleName, Search("step", "cosine", "constant")] = "cosine"
    """Course of the learning rate over the epochs of a session: constant, step (multiplied by
    lr_decay at each milestone), cosine (falling to min_lr), quarter-cosine (nearly to 0 along the
    falling quarter of a cosine), or released-cosine (the same one epoch late, as in CODA-Prompt's
    code)."""
    pool: Annotated[int, Ge(1), Search(30, 50, 100, 200, 300)] = 100
    """Components of all tasks together; each task owns this number divided by that of the tasks,
    rounded down."""
    length: Annotated[int, Ge(2), Search(4, 8, 16, 24, 32)] = 8
    """Rows of a component; the first half goes to the keys, the second to the values."""
    blocks: tuple[Annotated[int, Ge(0)], ...] = (0, 1, 2, 3, 4)
    """Blocks with prompts, counted from 0."""
    ortho: Annotated[float, Ge(0), Search(0.2, 0.1, 0.01, 0.001, 0.0)] = 0.0
    """Weight of the penalty on components, keys and attentions that are not orthogonal."""


class Components(nn.Module):
    """Components, keys and attentions of one block.

    Attributes:
        components: [size, length, width].
        keys: [size, width].
        attentions: [size, width].
    """

    def __init__(self, size: int, length: int, width: int) -> None:
        """Begin with zeros: `grow` fills a task's rows."""
        super().__init__()
        self.components = nn.Parameter(torch.zeros(size, length, width))
        self.keys = nn.Parameter(torch.zeros(size, width))
        self.attentions = nn.Parameter(torch.zeros(size, width))

    @torch.no_grad()
    def grow(self, first: int, drawn: dict[str, Tensor]) -> None:
        """Fill rows from ``first`` on by Gram-Schmidt; rows behind them become 0.

        Args:
            first: Number of rows that have been trained.
            drawn: Standard normal rows [new, numbers of a row], by the parameter's name.
        """
        for name, rows in drawn.items():
            values = self.get_parameter(name).data.flatten(1)
            values[first:] = 0
            for place, row in enumerate(rows, start=first):
                before = values[:place]
                # Each projection is that of the row itself, not of what the others have left.
                shares = before @ row / before.square().sum(1)
                values[place] = row - shares @ before
            new = values[first : first + len(rows)]
            new /= new.norm(dim=1, keepdim=True)

    def rows(self, first: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        """Components, keys and attentions below ``end``; those below ``first`` as constants."""
        components, keys, attentions = (
            torch.cat([p[:first].detach(), p[first:end]])
            for p in (self.components, self.keys, self.attentions)
        )
        return components, keys, attentions

    def prefix(self, query: Tensor, first: int, end: int) -> Prefix:
        """Rows for keys and values [n, rows, width] of queries [n, width]."""
        components, keys, attentions = self.rows(first, end)
        weights = torch.einsum("nmd,md->nm", unit(query[:, None] * attentions), unit(keys))
        prompt = torch.einsum("nm,mld->nld", weights, components)
        half = prompt.shape[1] // 2
        return prompt[:, :half], prompt[:, half:]

    def penalty(self, first: int, end: int) -> Tensor:
        """Sum over the three kinds of the mean of (M M^T - I)^2, rows of old tasks as constants."""
        flat = [rows.flatten(1) for rows in self.rows(first, end)]
        same = torch.eye(end).to(flat[0])
        return torch.stack([(m @ m.T - same).square().mean() for m in flat]).sum()


class CodaPrompt(PromptStrategy[CodaPromptConfig]):
    """Decomposed prompts as prefixes.

    Attributes:
        parts: `Components` of each prompted block.
        tasks: Tasks begun.
    """

    crop_area: ClassVar[tuple[float, float]] = (0.08, 1.0)

    @property
    def needs(self) -> Needs:
        """Also the number of tasks, among which the components are divided."""
        return replace(super().needs, total_experiences=True)

    def setup(self, info: StreamInfo) -> None:
        """Make empty components.

        Raises:
            BadConfig: an odd length, or fewer components than tasks.
            Incompatible: the backbone is no ViT, or lacks blocks.
        """
        super().setup(info)
        c, width, total = self.config, self.backbone.width, info.total_experiences
        assert total is not None
        if c.length % 2:
            raise BadConfig(
                expected="an even length: half of a component's rows are keys, half are values",
                found=str(c.length),
                fix="Give --length an even number",
            )
        if c.pool < total:
            raise BadConfig(
                expected=f"pool to be at least the number of experiences ({total})",
                found=str(c.pool),
                fix="Give --pool a greater value",
            )
        check_blocks(self.backbone.model, c.blocks, "blocks")
        size, length = c.pool, c.length
        parts = [Components(size, length, width) for _ in c.blocks]
        self.parts = nn.ModuleList(parts).to(info.device)
        self.tasks, self.share = 0, size // total

    def _components(self) -> list[Components]:
        return [part for part in self.parts if isinstance(part, Components)]

    def trained(self) -> list[nn.Parameter]:
        """All parameters that the optimiser is given; old components take no gradient."""
        return [*self.parts.parameters(), *self.head.parameters()]

    def train(self, experience: Experience) -> None:
        """Grow the components, then train those of this task and the head."""
        self.seen, self.tasks = experience.columns, experience.index + 1
        first, end = self.share * experience.index, self.share * (experience.index + 1)
        if self.training.begin(experience):
            for number, part in enumerate(self._components()):
                part.grow(first, self.draw(experience, number))

        def loss(batch: TrainBatch) -> Tensor:
            images = self.backbone.normalised(batch.images)
            logits = self.head(self.prompted(images, self.query(batch), first, end))
            entropy = session_loss(logits, batch.labels, experience.classes)
            if not self.config.ortho:
                return entropy
            penalties = torch.stack([p.penalty(first, end) for p in self._components()])
            return entropy + self.config.ortho * penalties.sum()

        self.training.run(experience, self.trained(), loss)

    def draw(self, experience: Experience, number: int) -> dict[str, Tensor]:
        """Standard normal rows for a task's new components of one block, by parameter."""
        drawn = {}
        for name, parameter in self.parts[number].named_parameters():
            generator = experience.generator(f"new {name} of prompted block {number}")
            shape = (self.share, parameter[0].numel())
            drawn[name] = torch.randn(shape, generator=generator).to(parameter)
        return drawn

    def prompted(self, images: Tensor, query: Tensor, first: int, end: int) -> Tensor:
        """Features [n, width] with the prompts for queries [n, width].

        Args:
            images: Images as the network is fed.
            query: Features of the frozen network.
            first: Components below it are constants.
            end: Number of components used.
        """
        pairs = zip(self.config.blocks, self._components(), strict=True)
        prefixes = {number: part.prefix(query, first, end) for number, part in pairs}
        with prefixes_attached(self.backbone.model, prefixes):
            return self.backbone.model(images)

    def logits(self, images: Tensor, query: Tensor) -> Tensor:
        """Logits [n, all classes of the stream] with the components of all tasks so far."""
        end = self.share * self.tasks
        return self.head(self.prompted(images, query, end, end))

    def predict(self, batch: Batch) -> Tensor:
        """Logits [n, columns] of the classes seen."""
        images = self.backbone.prepare(batch.images)
        return self.logits(images, self.features(batch))[:, : self.seen]
