"""Avalanche's strategies: what each is built from, what it needs, and why some cannot run.

A recipe says how a strategy of `avalanche.training` becomes a clgym strategy. Its options are read
from the constructor; a recipe states only what the constructor does not.
"""

import inspect
from collections import Counter
from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from clgym.avalanche.options import COMMON, MEMORY, plain_kind, signature_of
from clgym.avalanche.recipe import CLASSES, Extra, Recipe
from clgym.errors import BadPlugin, Incompatible

__all__ = ["RECIPES", "REFUSED", "recipe_of"]


def _plugin(template: Any, name: str) -> Any:
    return next(p for p in template.plugins if type(p).__name__ == name)


def _gem_share(template: Any, size: int) -> None:
    """Limit every experience to an equal share of the memory, which Avalanche would let grow."""
    gem = _plugin(template, "GEMPlugin")
    share = size // len(gem.memory_x)
    for store in (gem.memory_x, gem.memory_y, gem.memory_tid):
        store.update({t: values[:share].clone() for t, values in store.items()})


def _gem_kept(template: Any) -> list[tuple[Any, Any]]:
    gem = _plugin(template, "GEMPlugin")
    return [(gem.memory_x[t], gem.memory_y[t]) for t in gem.memory_x]


def _agem_share(template: Any, size: int) -> None:
    """Limit experiences as for GEM; the endless loader is created again before training."""
    agem = _plugin(template, "AGEMPlugin")
    share = size // len(agem.buffers)
    agem.buffers = [b.subset(range(min(share, len(b)))) for b in agem.buffers]
    agem.buffer_dataloader, agem.buffer_dliter = None, None


def _agem_loader(template: Any, view: Any) -> None:
    from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader

    agem = _plugin(template, "AGEMPlugin")
    if agem.buffers:
        size = max(1, agem.sample_size // len(agem.buffers))
        agem.buffer_dataloader = GroupBalancedInfiniteDataLoader(
            agem.buffers, batch_size=size, num_workers=0, pin_memory=False
        )
        agem.buffer_dliter = iter(agem.buffer_dataloader)


def _mir_data(template: Any, size: int) -> None:
    """Keep the data that the endless loader was made for, not the running loader."""
    mir = _plugin(template, "MIRPlugin")
    running = mir.replay_loader
    mir.replay_data = None if running is None else running.gi_frame.f_locals["loader"].dataset
    mir.replay_loader = None


def _mir_loader(template: Any, view: Any) -> None:
    import torch
    from avalanche.training.utils import cycle

    mir = _plugin(template, "MIRPlugin")
    data = getattr(mir, "replay_data", None)
    if data is not None:
        loader = torch.utils.data.DataLoader(data, batch_size=mir.subsample, shuffle=True)
        mir.replay_loader = cycle(loader)


def _gss_kept(template: Any) -> list[tuple[Any, Any]]:
    gss = _plugin(template, "GSS_greedyPlugin")
    filled = gss.ext_mem_list_current_index
    return [(gss.ext_mem_list_x[:filled], gss.ext_mem_list_y[:filled])]


def _icarl_size(template: Any, view: Any) -> None:
    """Round the size down to a multiple of the classes seen: Avalanche's rounding exceeds it."""
    icarl = _plugin(template, "_ICaRLPlugin")
    declared = icarl.__dict__.setdefault("declared_size", icarl.memory_size)
    classes = len(view.classes_seen_so_far)
    icarl.memory_size = declared - declared % classes


def _icarl_kept(template: Any) -> list[tuple[Any, Any]]:
    import torch

    icarl = _plugin(template, "_ICaRLPlugin")
    return [(x, torch.tensor(y)) for x, y in zip(icarl.x_memory, icarl.y_memory, strict=True)]


def _second_view(owner: Any) -> Any:
    """The second view of images; Avalanche's own default is a lambda, which cannot be saved."""
    import torch

    from clgym.avalanche.contrast import Views

    return Views() if owner.config.views == "paper" else torch.nn.Identity()


def _bic_rows(template: Any, view: Any) -> None:
    """Refuse an experience that would be held out as a whole."""
    bic, rows = _plugin(template, "BiCPlugin"), Counter(view.dataset.targets)
    seen = set(bic.seen_classes) | set(rows)
    held = dict(zip(seen, bic.get_group_lengths(len(seen)), strict=True))
    if all(count <= held[column] for column, count in rows.items()):
        raise Incompatible(
            expected="more rows in an experience than BiC holds out for its second stage "
            f"({max(held[column] for column in rows)} of a class)",
            found=f"{sum(rows.values())} in experience {view.current_experience}",
            fix="Give --val-percentage or --memory-size a smaller number",
        )


def _pruned_share(owner: Any) -> dict[str, object]:
    from clgym.avalanche.packnet import Always

    return {"prune_proportion": Always(owner.config.prune_proportion)}


def _packnet_options(config: Any) -> None:
    from clgym.avalanche.packnet import check

    check(config)


def _packnet_hooks(template: Any) -> None:
    from clgym.avalanche.packnet import watch_gradients

    watch_gradients(template.model)


def _total(owner: Any) -> int:
    return owner.info.total_columns


RECIPES: dict[str, Recipe] = {
    "AGEM": Recipe(
        "projects gradients against the mean gradient of a memory",
        multi_head=True,
        memory=True,
        defaults={"patterns_per_exp": 50},
        before=_agem_loader,
        after=_agem_share,
    ),
    "BiC": Recipe(
        "replay and distillation, with the head's bias corrected on held-out rows",
        rereads=True,
        memory=True,
        settings=CLASSES,
        new_classes_only=True,
        # The held-out rows come on top of Avalanche's mem_size.
        given=lambda owner: {
            "mem_size": int(owner.config.memory_size / (1 + owner.config.val_percentage)),
        },
        before=_bic_rows,
        check={"memory_size": 30, "val_percentage": 0.5, "stage_2_epochs": 2},
        fails={"one-image-class": "it holds out rows of every class: the only one, there"},
    ),
    "CWRStar": Recipe(
        "copies weights of the head, everything else frozen after the first experience",
        hidden=("cwr_layer_name",),
        given=lambda owner: {"cwr_layer_name": None},
    ),
    "CoPE": Recipe(
        "prototypes that evolve, with a loss over pseudo-prototypes",
        head="total",
        memory=True,
        hidden=("n_classes", "p_size"),
        given=lambda owner: {"n_classes": _total(owner), "p_size": _total(owner)},
        # It stops after one batch, since it is written for streams of single batches.
        before=lambda template, view: setattr(_plugin(template, "CoPEPlugin"), "max_it_cnt", 0),
        beside=lambda template: list(_plugin(template, "CoPEPlugin").p_mem.values()),
    ),
    "Cumulative": Recipe("continues training on all rows so far", multi_head=True, past_data=True),
    "DER": Recipe(
        "dark experience replay with logits taken at the end of each experience",
        rereads=True,
        head="total",
        memory=True,
    ),
    "ER_ACE": Recipe("replay with an asymmetric cross-entropy", memory=True),
    "EWC": Recipe(
        "elastic weight consolidation",
        multi_head=True,
        rereads=True,
        defaults={"ewc_lambda": 100.0},
        hidden=("mode",),
        given=lambda owner: {
            "mode": "separate" if owner.config.decay_factor is None else "online",
        },
    ),
    "FromScratchTraining": Recipe(
        "trains a new network on the rows of each experience", multi_head=True
    ),
    "GDumb": Recipe(
        "trains from scratch, on a class-balanced memory only",
        multi_head=True,
        rereads=True,
        memory=True,
    ),
    "GEM": Recipe(
        "projects gradients against one constraint for every past experience",
        multi_head=True,
        rereads=True,
        memory=True,
        defaults={"patterns_per_exp": 50},
        after=_gem_share,
        kept=_gem_kept,
    ),
    "GSS_greedy": Recipe(
        "replay of samples chosen for the diversity of their gradients",
        memory=True,
        hidden=("input_size",),
        given=lambda owner: {"input_size": list(owner.info.image_shape)},
        kept=_gss_kept,
        check={"memory_size": 48, "epochs": 6},
    ),
    "ICaRL": Recipe(
        "exemplars by herding, distillation, nearest class mean",
        rereads=True,
        body="split",
        head="total",  # its copy of the old network is loaded from the new one
        memory=True,
        settings=CLASSES,
        new_classes_only=True,
        defaults={"memory_size": 200},
        hidden=("feature_extractor", "classifier", "buffer_transform", "fixed_memory"),
        given=lambda owner: {"buffer_transform": None, "fixed_memory": True},
        before=_icarl_size,
        kept=_icarl_kept,
    ),
    "JointTraining": Recipe(
        "trains a new network on all rows so far",
        multi_head=True,
        past_data=True,
        afresh=True,
        after=lambda template, size: template._experiences.clear(),
    ),
    "LFL": Recipe(
        "keeps the features near those of the previous network",
        multi_head=True,
        body="featured",
        defaults={"lambda_e": 1.0},
    ),
    "LwF": Recipe(
        "distils the logits of the previous network",
        multi_head=True,
        defaults={"alpha": 1.0, "temperature": 2.0},
    ),
    "MAS": Recipe("memory-aware synapses", multi_head=True, rereads=True, hidden=("verbose",)),
    "MER": Recipe("meta-experience replay, one sample a step", memory=True),
    "MIR": Recipe(
        "replay of the samples whose loss would grow most",
        multi_head=True,
        memory=True,
        defaults={"memory_size": 200, "subsample": 200, "batch_size_mem": 10},
        before=_mir_loader,
        after=_mir_data,
    ),
    "Naive": Recipe("plain training", multi_head=True),
    "PackNet": Recipe(
        "packs tasks into one body by pruning; a head for every task",
        body="packed",
        rereads=True,
        settings=("task-incremental",),
        defaults={"epochs": 2, "post_prune_epochs": 1},
        extra=(
            Extra(
                "prune_proportion",
                Annotated[float, Ge(0), Le(1)],
                0.5,
                "Share of the weights free so far that a task leaves to the next ones.",
            ),
        ),
        hidden=("prune_proportion",),
        given=_pruned_share,
        refuse=_packnet_options,
        restored=_packnet_hooks,
        check={"epochs": 2},
    ),
    "Replay": Recipe("replay of an experience-balanced memory", multi_head=True, memory=True),
    "SCR": Recipe(
        "supervised contrastive replay, nearest class mean",
        body="contrastive",
        memory=True,
        hidden=("augmentations",),
        extra=(
            Extra(
                "views",
                Literal["paper", "none"],
                "paper",
                "Second view of each image: paper (random crop, flip, colours, grey) or the image.",
            ),
        ),
        given=lambda owner: {"augmentations": _second_view(owner)},
    ),
    "StreamingLDA": Recipe(
        "streaming linear discriminant analysis on a frozen network",
        body="features",
        head="total",
        sgd=False,
        hidden=("input_size", "num_classes", "output_layer_name", "slda_model"),
        given=lambda owner: {
            "input_size": owner.network.head.in_features,
            "num_classes": _total(owner),
        },
        beside=lambda template: [template.muK, template.Sigma],
    ),
    "SynapticIntelligence": Recipe(
        "synaptic intelligence", multi_head=True, defaults={"si_lambda": 0.1}
    ),
}
"""Recipes by class name in `avalanche.training`."""

REFUSED: dict[str, str] = {
    "AR1": "it builds its own pretrained MobileNet and replays that network's inner layers",
    "ER_AML": "it waits for ever once a class has fewer stored samples than a batch holds",
    "ExpertGateStrategy": "it needs a pretrained AlexNet and an autoencoder for every task",
    "FeatureReplay": "its memory keeps the features of all samples seen, not those of its buffer",
    "GenerativeReplay": "it needs a generator with a training strategy of its own",
    "LearningToPrompt": "it downloads a pretrained vision transformer",
    "PNNStrategy": "it needs Avalanche's own progressive network",
}
"""Strategies of `avalanche.training` that cannot run here, with the reason."""


def recipe_of(template_class: type, *, strict: bool = True) -> Recipe:
    """The recipe of a template that is not in the catalogue, from its constructor.

    A class that derives from a catalogued one gets the recipe of that class. The template is
    assumed to read the rows of an experience more than once, so single-pass streams refuse it.

    Args:
        template_class: A class that derives from Avalanche's templates.
        strict: Whether every argument must be an option; False where `arguments` gives some.

    Raises:
        BadPlugin: There is an argument that no option can set.
    """
    takes = signature_of(template_class)
    bases = [b for b in template_class.__mro__ if b.__module__.startswith("avalanche.training")]
    known = next((RECIPES[b.__name__] for b in bases if b.__name__ in RECIPES), None)
    plain = Recipe(
        multi_head=_passes_task_ids(template_class),
        memory=any(name in takes for name in MEMORY),
        sgd="optimizer" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values()),
    )
    own = [p for p in takes.values() if p.name not in COMMON and not _variadic(p)]
    objects = [p for p in own if plain_kind(p.annotation, p.default) is None]
    needed = [
        p.name for p in objects if p.default is p.empty and not (known and p.name in known.hidden)
    ]
    if needed and strict:
        raise BadPlugin(
            expected=f"numbers, texts and true or false as arguments of {template_class.__name__}",
            found=", ".join(needed),
            fix="Write a class that derives from clgym.avalanche.AvalancheStrategy, with "
            "`template_class`, and give them in `arguments`",
        )
    recipe = known or plain
    hidden = dict.fromkeys([*recipe.hidden, *(p.name for p in objects)])
    summary = (inspect.getdoc(template_class) or "").split("\n", 1)[0]
    return replace(recipe, summary=summary, hidden=tuple(hidden), rereads=True)


def _passes_task_ids(template_class: Any) -> bool:
    """Whether a template calls its model with task ids, as Avalanche's own templates do."""
    from avalanche.training.templates.problem_type import SupervisedProblem

    return getattr(template_class, "forward", None) is SupervisedProblem.forward


def _variadic(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
