"""The pure parts of expandable, foster and beef: growth, outputs, losses, sampling."""

from typing import Any

import numpy as np
import pytest
from torch import Tensor
from torch.nn.functional import cross_entropy

from clgym.models.expanding import (
    Branches,
    BranchesClassifier,
    ExpandingClassifier,
    aux_targets,
)
from clgym.models.incremental import align_new_rows
from clgym.models.staged import TwoConvolutions
from clgym.registry import find, load_module
from growing import check_fresh, check_state, close, fill, renamed, tensor

FAMILY = ("expandable_parts", "foster_parts", "beef_parts")

beef = load_module(find("strategies", "beef"))
foster = load_module(find("strategies", "foster"))


def tiny(group: Any) -> TwoConvolutions:
    """The network of the files, of their widths."""
    first, channels = group["branch0.conv1.weight"].shape[:2]
    return TwoConvolutions(channels, (first, len(group["branch0.conv2.weight"])))


def frozen_only(network: BranchesClassifier) -> None:
    """Every branch but the last is frozen and asked in evaluation mode."""
    *old, last = network.train().backbone.branches
    assert all(not p.requires_grad for branch in old for p in branch.parameters())
    assert all(p.requires_grad for p in last.parameters())
    assert not any(branch.training for branch in old) and last.training


@pytest.mark.golden("expandable_parts*")
def test_expandable(golden) -> None:
    sizes, x = golden["sizes"].tolist(), tensor(golden["x"])
    branch = tiny(golden.group("task0.used."))
    network = ExpandingClassifier(Branches(branch, branch.width)).double()
    for task in range(len(sizes)):
        known, columns = sum(sizes[:task]), sum(sizes[: task + 1])
        grown = golden.group(f"task{task}.after_growth.")
        network.grow(columns)
        wanted = renamed(grown, aux="aux" if task else None)
        check_growth(network, wanted, known, golden, task)
        frozen_only(network)
        used = golden.group(f"task{task}.used.")
        fill(network, renamed(used, aux="aux" if task else None))
        network.eval()
        features = network.features(x)
        close(features, golden[f"task{task}.features"])
        close(network(x), golden[f"task{task}.logits"])
        if task:
            check_expandable_task(network, features, known, golden.group(f"task{task}."))


def check_growth(network: ExpandingClassifier, wanted: dict, known: int, golden, task: int) -> None:
    """What is inherited equals the file's; what is fresh is drawn, and its biases are 0."""
    inherited = {key: value for key, value in wanted.items() if key.startswith("backbone")}
    if task:
        check_state(network, inherited)
        before = golden[f"task{task - 1}.used.head.weight"]
        if task > 1:  # the aligned head is what grows
            before = golden[f"task{task - 1}.head_weight_aligned"]
        width = before.shape[1]
        close(network.head.weight[:known, :width], before)
        np.testing.assert_array_equal(wanted["head.weight"][:known, :width], before)
        check_fresh(network.head.weight[:, width:], network.head.in_features)
        assert network.aux is not None
        check_fresh(network.aux.weight, network.aux.in_features)
    assert {k: v.shape for k, v in network.state_dict().items() if k in wanted} == {
        k: v.shape for k, v in wanted.items()
    }
    assert not network.head.bias[known:].any()


def check_expandable_task(
    network: ExpandingClassifier, features: Tensor, known: int, wanted: dict
) -> None:
    targets = tensor(wanted["targets"]).long()
    aux = network.aux_logits(features)
    close(aux, wanted["aux_logits"])
    pseudo = aux_targets(targets, known)
    assert pseudo.tolist() == wanted["aux_targets"].tolist()
    close(cross_entropy(aux, pseudo), wanted["aux_loss"])
    close(cross_entropy(network.head(features), targets), wanted["ce"])
    align_new_rows(network.head.weight, known)
    close(network.head.weight, wanted["head_weight_aligned"])


@pytest.mark.golden("foster_parts*")
def test_fosters_losses(golden) -> None:
    known, memory = int(golden["n_known"]), int(golden["memory_size"])
    counts = tensor(np.append(np.full(known, memory // known), golden["new_counts"]))
    boost = foster.class_weights(counts, float(golden["beta1"]))
    compress = foster.class_weights(counts, float(golden["beta2"]))
    close(boost, golden["class_weights_boost"])
    close(compress, golden["class_weights_compress"])
    logits = tensor(golden["logits"]).requires_grad_()
    extra = tensor(golden["fe_logits"]).requires_grad_()
    old, targets = tensor(golden["old_logits"]), tensor(golden["targets"]).long()
    terms = foster.boosting_terms(logits, extra, old, targets, boost, float(golden["T"]))
    for term, name in zip(terms, ("balanced_ce", "fe_ce", "okd"), strict=True):
        close(term, golden[name])
    balanced, own, distilled = terms
    loss = balanced + float(golden["lambda_fe"]) * own + float(golden["lambda_okd"]) * distilled
    close(loss, golden["boost_loss"])
    loss.backward()
    assert logits.grad is not None and extra.grad is not None
    close(logits.grad, golden["grad_logits"])
    close(extra.grad, golden["grad_fe_logits"])
    student = tensor(golden["student_logits"]).requires_grad_()
    teacher = tensor(golden["logits"])
    bkd = foster.balanced_distillation(student, teacher, compress, float(golden["T"]))
    bkd.backward()
    close(bkd, golden["bkd"])
    assert student.grad is not None
    close(student.grad, golden["grad_student"])


@pytest.mark.golden("foster_parts*")
def test_fosters_growth(golden) -> None:
    before, after = golden.group("grow.before."), golden.group("grow.after.")
    branch = tiny(before)
    network = foster.BoostedClassifier(Branches(branch, branch.width)).double()
    network.grow(len(before["head.bias"]))
    fill(network, renamed(before, fe=None))
    network.grow(len(after["head.bias"]))
    frozen_only(network)
    assert not network.old_head.weight.requires_grad
    known, width = before["head.weight"].shape
    wanted = renamed(after)
    check_state(network, {k: v for k, v in wanted.items() if k.startswith(("backbone", "old_"))})
    close(network.head.weight[:known, :width], before["head.weight"])
    check_fresh(network.head.weight[:, width:], 2 * width)
    check_fresh(network.extra.weight, width)
    fill(network, wanted)
    network.eval()
    features = network.features(tensor(golden["grow.x"]))
    close(features, golden["grow.features"])
    close(network.logits(features), golden["grow.logits"])
    close(network.extra_logits(features), golden["grow.fe_logits"])
    close(network.old_logits(features), golden["grow.old_logits"])


@pytest.mark.golden("beef_parts*")
def test_beef(golden) -> None:
    sizes = golden["sizes"].tolist()
    branch = tiny(golden.group("task0.used."))
    network = beef.BeefClassifier(branch, branch.width).double()
    for task in range(len(sizes)):
        known, columns = sum(sizes[:task]), sum(sizes[: task + 1])
        network.grow(columns)
        assert (network.known, network.columns) == (known, columns)
        grown = renamed(golden.group(f"task{task}.after_growth."), fe=None, old_head="head")
        inherited = ("backbone", "head.", "alpha", "beta") if task else ()
        check_state(network, {k: v for k, v in grown.items() if k.startswith(inherited)})
        for name in ("new_head", "energies", *(["past"] if task else [])):
            head = getattr(network, name)
            check_fresh(head.weight, head.in_features)
            assert head.weight.shape == grown[f"{name}.weight"].shape and not head.bias.any()
        fill(network, renamed(golden.group(f"task{task}.used."), fe=None, old_head="head"))
        network.eval()
        check_beef_task(network, golden.group(f"task{task}."), golden)
        merged = network.merged_head()
        close(merged.weight, golden[f"task{task}.merged_head.weight"])
        close(merged.bias, golden[f"task{task}.merged_head.bias"])


def check_beef_task(network: Any, wanted: dict, golden) -> None:
    x, targets = tensor(wanted["x"]), tensor(wanted["targets"]).long()
    own = network.own(network.features(x))
    close(network(x), wanted["logits"])
    close(network.energies(own), wanted["energy_logits"])
    logits, pseudo = network.train_logits(own), network.train_targets(targets)
    assert pseudo.tolist() == wanted["pseudo_targets"].tolist()
    if network.known:
        close(logits, wanted["train_logits"])
        tasks, divisor = len(network.backbone) - 1, float(golden["logits_alignment"])
        loss = cross_entropy(beef.aligned(logits, tasks, divisor), pseudo)
        close(loss, wanted["expansion_ce"])
    samples = network.samples(x, 0.001 * tensor(wanted["noise"]))
    close(samples, wanted["samples"])
    network.zero_grad()
    loss = network.energy_loss(samples, targets)
    loss.backward()
    close(loss, wanted["energy_loss"])
    close(network.energies.weight.grad, wanted["grad_forward_weight"])
    close(network.new_head.weight.grad, wanted["grad_new_head_weight"])
    close(network.backbone.last.conv2.weight.grad, wanted["grad_conv2"])
