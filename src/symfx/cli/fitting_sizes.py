"""The example sizes that a command chose: told when a run fails, with sizes that would fit."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator

from symfx.cli.example_calls import ExampleCall, arrange, make_inputs
from symfx.errors import SymfxError, TracingError

__all__ = ["telling_sizes"]

#: The sizes that are tried, the number of calls of the model, and the seconds that they may take.
_SIZES, _CALLS, _SECONDS = range(2, 33), 200, 5.0


@contextlib.contextmanager
def telling_sizes(call: ExampleCall, seed: int) -> Iterator[None]:
    """Add the chosen example sizes to an error that is raised inside.

    If the model itself cannot run with them, the note also names sizes with which it runs.

    Args:
        call: the example call.
        seed: the seed from which the inputs were drawn.
    """
    try:
        yield
    except SymfxError as error:
        if call.chosen:
            note = f"tried with {_in_words(call.chosen)}, which symfx chose"
            if isinstance(error, TracingError) and error.__cause__ is not None:
                fitting = _fitting(call, seed)
                if fitting is not None:
                    note += f"; the model runs with {_in_words(fitting)}"
                    error.fix = f"give an example size in --input: {_in_words(fitting)}"
            error.add_note(note)
        raise


def _in_words(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())


def _fitting(call: ExampleCall, seed: int) -> dict[str, int] | None:
    """Sizes with which the model runs, changed in as few names as possible.

    None if none was found, or if the model runs with the chosen sizes: then these are not the
    cause.
    """
    end = time.monotonic() + _SECONDS
    if _runs(call, call.chosen, seed):
        return None
    names = list(call.chosen)
    one = ({**call.chosen, name: size} for size in _SIZES for name in names)
    # Sizes that depend on each other are most often equal, or multiples.
    alike = (dict.fromkeys(names, size) for size in _SIZES)
    pairs = (
        dict(zip(names, sizes, strict=True))
        for sizes in itertools.product((2, 4, 6, 8, 16, 32), repeat=len(names))
    )
    tried = itertools.chain(one, alike, pairs)
    for sizes in itertools.islice(tried, _CALLS):
        if time.monotonic() > end:
            break
        if _runs(call, sizes, seed):
            return {name: size for name, size in sizes.items() if size != call.chosen[name]}
    return None


def _runs(call: ExampleCall, sizes: dict[str, int], seed: int) -> bool:
    """Whether the model runs on fake tensors of these sizes."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils import _pytree as pytree

    from symfx.tracing.model_state import untouched
    from symfx.tracing.torch_logs import without_torch_logs

    try:
        values, _ = make_inputs(call.inputs, seed, sizes=sizes)
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        args, kwargs = pytree.tree_map(
            lambda value: mode.from_tensor(value) if hasattr(value, "stride") else value,
            arrange(call.model, values),
        )
        with mode, untouched(call.model), without_torch_logs():
            call.model(*args, **kwargs)
    except Exception:  # noqa: BLE001 - that the model fails is the answer
        return False
    return True
