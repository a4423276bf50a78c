"""``python -m benchmarks.typed_zoo``: the annotated programs of a zoo, as a table of Markdown.

Each model gets inputs with names of sizes. The table has the number of nodes whose type is not
known, and how many of these have a size that the data force, such as the rows of ``x[mask]``.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import nn

from benchmarks.networks import NETWORKS, LastHidden
from symfx.errors import SymfxError
from symfx.static_migration import Migration, typecheck
from symfx.static_migration.conditions import parse_input
from symfx.static_migration.light_models import without_weights

IMAGES, SQUARE, IDS = "x: [n, 3, h, w]", "x: [n, 3, 224, 224]", "x: i64[n, t]"


@dataclass(frozen=True)
class Model:
    """A model of the zoo.

    Attributes:
        make: makes the model.
        input: the type of its input.
        where: conditions on the names.
    """

    make: Callable[[], nn.Module]
    input: str
    where: tuple[str, ...] = ()


def _hugging(kind: str, keyword: str, **sizes: Any) -> Callable[[], nn.Module]:
    """A small model of transformers with random weights."""

    def make() -> nn.Module:
        import transformers

        config = getattr(transformers, f"{kind}Config")(**sizes)
        return LastHidden(getattr(transformers, f"{kind}Model")(config), keyword)

    return make


def _vision(kind: str, **sizes: Any) -> Callable[[], nn.Module]:
    return _hugging(kind, "pixel_values", **sizes)


def _text(kind: str, **sizes: Any) -> Callable[[], nn.Module]:
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    small |= {"intermediate_size": 64, "vocab_size": 100}
    return _hugging(kind, "input_ids", **(small | sizes))


_OF_NETWORKS = {
    **dict.fromkeys(("resnet50", "mobilenet", "densenet"), "input: [n, 3, h, w]"),
    **dict.fromkeys(("resnet18", "unet"), IMAGES),
    "vit": SQUARE,
    "bert": "ids: i64[n, t]",
    "encoder": "src: [n, t, 256]",
    **dict.fromkeys(("hf-bert", "gpt2", "llama"), IDS),
    "hf-vit": SQUARE,
    "whisper": "x: [n, 80, 500]",
}
_DIVISIBLE = ("h % 32 == 0", "w % 32 == 0")
_TWO_STAGES: dict[str, Any] = {"hidden_sizes": [16, 32], "depths": [2, 2]}
_TRANSFORMER: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_DECODER: dict[str, Any] = {"num_key_value_heads": 2, "use_cache": False}
MODELS: dict[str, Model] = {
    **{
        name: Model(NETWORKS[name].make, text, _DIVISIBLE if name == "unet" else ())
        for name, text in _OF_NETWORKS.items()
    },
    "hf-resnet": Model(_vision("ResNet", **_TWO_STAGES), IMAGES),
    "hf-mobilenet-v1": Model(_vision("MobileNetV1"), IMAGES, _DIVISIBLE),
    "hf-mobilenet-v2": Model(_vision("MobileNetV2"), IMAGES, _DIVISIBLE),
    "hf-efficientnet": Model(_vision("EfficientNet", depth_coefficient=1.0), IMAGES),
    "hf-regnet": Model(_vision("RegNet", **_TWO_STAGES), IMAGES),
    "hf-convnext": Model(_vision("ConvNext", **_TWO_STAGES, num_stages=2), IMAGES),
    "hf-poolformer": Model(_vision("PoolFormer"), IMAGES),
    "hf-segformer": Model(_vision("Segformer"), IMAGES, _DIVISIBLE),
    "hf-swin": Model(_vision("Swin", embed_dim=24, depths=[2, 2], num_heads=[2, 4]), SQUARE),
    "hf-deit": Model(_vision("DeiT", **_TRANSFORMER), SQUARE),
    "hf-beit": Model(_vision("Beit", **_TRANSFORMER), SQUARE),
    "hf-levit": Model(_vision("Levit"), SQUARE),
    "hf-roberta": Model(_text("Roberta"), IDS),
    "hf-electra": Model(_text("Electra"), IDS),
    "hf-mistral": Model(_text("Mistral", **_DECODER), IDS),
    "hf-qwen2": Model(_text("Qwen2", **_DECODER), IDS),
}


def _unknown(found: Migration) -> tuple[int, int]:
    """The nodes with an unknown type, and the nodes with a size that data force."""
    dyn = sum("Dyn" in shape for shape in found.shapes.values())
    forced = sum("u0" in shape or "u1" in shape for shape in found.shapes.values())
    return dyn, forced


def main(
    only: Annotated[list[str] | None, typer.Option(help="Type this model alone.")] = None,
) -> None:
    """Print one line for each model of the zoo."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    progress = Console(stderr=True)
    print("| model | input | nodes | Dyn | sizes of data | result | conditions |")
    print("|---|---|---|---|---|---|---|")
    for name, model in MODELS.items():
        if only and name not in only:
            continue
        start = time.perf_counter()
        with without_weights():
            module = model.make().eval()
        try:
            found = typecheck(module, dict([parse_input(model.input)]), model.where)
        except SymfxError as error:
            print(f"| {name} | `{model.input}` | | | | {error.what} | |")
            continue
        if found.conflict is not None:
            print(f"| {name} | `{model.input}` | | | | {found.conflict.message} | |")
            continue
        dyn, forced = _unknown(found)
        result = found.shapes[found.graph.output_node()]
        conditions = ", ".join(f"`{text}`" for text in found.conditions) or "none"
        where = f", {' and '.join(model.where)}" if model.where else ""
        print(
            f"| {name} | `{model.input}`{where} | {len(found.shapes)} | {dyn} | {forced} "
            f"| `{result}` | {conditions} |"
        )
        progress.print(f"[dim]{name}: {time.perf_counter() - start:.1f} s[/]")
        torch._dynamo.reset()


if __name__ == "__main__":
    typer.run(main)
