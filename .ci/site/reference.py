"""The reference of the public modules, from their docstrings; nothing is imported.

`build.py` writes it as a page of the site. It is no file of the repository, so it cannot differ
from the code.
"""

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = {
    "clgym.api": ("clgym", None),
    "clgym.strategy": ("clgym.strategy", ("Strategy", "StreamInfo", "Config")),
    "clgym.classifier": ("clgym.strategy", ("Classifier",)),
    "clgym.messages.needs": ("clgym.strategy", ("Needs", "Frozen")),
    "clgym.data.batch": ("clgym.strategy", None),
    "clgym.data.experience": ("clgym.strategy", ("Experience",)),
    "clgym.data.memory": ("clgym.strategy", ("Memory",)),
    "clgym.config": ("clgym.config", ("Search", "Wrapped")),
    "clgym.avalanche.sgd": (
        "clgym.avalanche",
        ("StepConfig", "SGDConfig", "HeadsConfig", "SGDStrategy"),
    ),
    "clgym.avalanche.pretraining": ("clgym.avalanche", None),
    "clgym.avalanche.adapter": ("clgym.avalanche", ("AvalancheStrategy",)),
    "clgym.avalanche.recipe": ("clgym.avalanche", ("Recipe", "Extra")),
    "clgym.avalanche.template": ("clgym.avalanche", ("as_template",)),
    "clgym.avalanche.benchmarks": ("clgym.avalanche", None),
    "clgym.models.pretrained": ("clgym.models.pretrained", None),
    "clgym.adaptation": ("clgym.adaptation", None),
    "clgym.scenario": (
        "clgym.scenario",
        ("Scenario", "ScenarioConfig", "Step", "Stream"),
    ),
    "clgym.data.fixed_transform": ("clgym.scenario", ("Transform",)),
    "clgym.data.imageset": ("clgym.data.imageset", ("ImageSet",)),
    "clgym.data.transforms": ("clgym.data.transforms", None),
    "clgym.testing": ("clgym.testing", None),
}
"""For each module: where its names are imported from, and which; None means all of `__all__`."""

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
INTRODUCTION = """# API reference

Generated from the docstrings. What an author of a plugin imports stands here, by the module to
import it from; [Writing a strategy](strategy.md) and its neighbours explain how to use it.
"""


def page() -> str:
    """The whole page."""
    parts, last = [INTRODUCTION], ""
    for module, (home, names) in PUBLIC.items():
        tree = ast.parse(ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text())
        parts += [f"## {home}\n"] if home != last else []
        last = home
        nodes = {n.name: n for n in tree.body if isinstance(n, (ast.ClassDef, *Function))}
        for name in names or [name for name in _exported(tree) if name in nodes]:
            parts += _described(nodes[name])
    return "\n".join(parts)


def _exported(tree: ast.Module) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return tuple(ast.literal_eval(node.value))
    return ()


def _described(node: ast.AST) -> Iterator[str]:
    """A class with its fields and methods, or a function."""
    if isinstance(node, Function):
        yield f"### {node.name}\n"
        yield _block(f"{node.name}{_signature(node)}", node)
        return
    assert isinstance(node, ast.ClassDef)
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    yield f"### {node.name}\n"
    yield _block(f"class {node.name}({bases})" if bases else f"class {node.name}", node)
    for field, below in zip(node.body, node.body[1:], strict=False):
        text = below.value if isinstance(below, ast.Expr) else None
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Constant):
            words = " ".join(str(text.value).split())
            yield f"* `{ast.unparse(field.target)}`: {_escaped(words)}"
    yield ""
    for method in node.body:
        if isinstance(method, Function) and method.name[0] != "_" and ast.get_docstring(method):
            is_property = any(ast.unparse(d) == "property" for d in method.decorator_list)
            shape = f": {ast.unparse(method.returns)}" if is_property and method.returns else ""
            head = shape if is_property else _signature(method)
            yield _block(f"{node.name}.{method.name}{head}", method)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){returns}".replace("(self, ", "(").replace("(self)", "()")


def _block(head: str, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """A signature with its docstring, as they stand in the code."""
    text = ast.get_docstring(node) or ""
    return f"```text\n{head}\n{textwrap.indent(text, '    ')}\n```\n"


def _escaped(words: str) -> str:
    return words.replace("<", "&lt;")
