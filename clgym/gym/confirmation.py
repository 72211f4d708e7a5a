"""Confirm the options and needs of a plan with the process that trains.

A plan may be based on replies cached by an earlier command (`clgym.gym.kept_answers`), and a
strategy may reply differently when asked again. No run trains by a plan that its own learner does
not confirm.
"""

from clgym.errors import BadPlugin
from clgym.gym.conversation import Conversation
from clgym.gym.description import needs_question, options_question
from clgym.gym.kept_answers import forget_answers
from clgym.gym.plan import ResolvedRun
from clgym.messages import NeedsDescribed, OptionsDescribed

__all__ = ["confirm"]


def confirm(run: ResolvedRun, conversation: Conversation) -> None:
    """Ask the learner of a run for the options and needs from which the run was planned.

    Raises:
        BadPlugin: They differ; cached replies are then deleted.
    """
    request, strategy = run.request, run.strategy
    options = options_question(strategy.name, request.plugins, strategy.given)
    needs = needs_question(
        strategy.name, request.plugins, run.asked_config, request.device, request.data_root
    )
    different = _different_options(run, conversation.describe_options(options))
    different = different or _different_needs(run, conversation.describe_needs(needs))
    if different is None:
        return
    forget_answers()
    raise BadPlugin(
        expected=f"the {different} that {strategy.name} had when this run was planned",
        found=f"different {different} in the process that trains",
        fix="Repeat the command if files have changed meanwhile; a strategy must have the same "
        f"{different} whenever it is asked",
    )


def _different_options(run: ResolvedRun, reply: OptionsDescribed) -> str | None:
    planned = run.strategy
    same = {
        "options": reply.fields == planned.fields,
        "known failures": reply.known_failures == planned.known_failures,
        "helper files": reply.read_files == planned.read_files,
    }
    return next((words for words, equal in same.items() if not equal), None)


def _different_needs(run: ResolvedRun, reply: NeedsDescribed) -> str | None:
    weights = reply.backbone and reply.backbone.weights
    if weights != (run.backbone and run.backbone.weights):
        return "weights"
    return None if reply.needs == run.needs else "needs"
