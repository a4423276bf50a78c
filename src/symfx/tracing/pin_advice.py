"""What to write in place of a line that needs a size as a number."""

from __future__ import annotations

import re

from symfx.symbolic_shapes import Provenance
from symfx.user_code import is_user_file

__all__ = ["advice_for", "pin_advice"]

_SYMBOLIC = (
    "+, -, *, //, %, max, min, round, int, math.sqrt, math.log, torch.sym_max, "
    "torch.sym_ite(condition, a, b)"
)
_OTHERWISE = (
    f"compute the number by what stays symbolic ({_SYMBOLIC}), or in a tensor: torch.tensor(n), "
    "then .item()"
)

#: A text, whose letters say nothing about the program.
_TEXT = re.compile(r"""\b[rRfFbB]{0,2}(?:"[^"]*"|'[^']*')|"[^"]*"|'[^']*'""")
#: What a line may hold, and what to write instead; the first entry that fits is told.
_ADVICE = (
    (
        r"\brange\(|\bfor\b.*\bin\b|\bwhile\b|\.unbind\(|\bfill\(",
        "a Python loop becomes as many steps of the graph: compute on the whole tensor "
        "(torch.arange, broadcasting, cumsum, torch.vmap), or loop in the graph: torch.while_loop",
    ),
    (
        r"\b(?:np|numpy)\.\w+",
        "numpy takes no symbolic number: use Python's math or torch, such as math.sqrt(n)",
    ),
    (
        r"\btorch\.Tensor\(",
        "torch.Tensor takes no symbolic number in a list: write torch.tensor([...])",
    ),
    (
        r"\bdropout\w*\(|\bDropout\w*\(",
        "the probability of dropout is a number of the graph: compute the mask from p, "
        "x * (torch.rand_like(x) >= p) / (1 - p)",
    ),
    (
        r"\bhistc\(|\bhistogram\(",
        "the number of bins of histc is a number of the graph: compute the bin of each element, "
        "then torch.bincount(bins, minlength=n)",
    ),
    (
        r"\bistft\(",
        "the n_fft of istft is a number of the graph: invert the frames by torch.fft.irfft(y, n), "
        "and add them up by index_add",
    ),
    (
        r"\bstft\(",
        "here the n_fft of stft is a number of the graph: pass real numbers and "
        "return_complex=True, with which it may be a size",
    ),
    (
        r"\bmath\.\w+\(",
        "of this function of math no symbolic form exists for these arguments: {otherwise}",
    ),
    (
        r"\bf\"\"|\b(?:str|repr|format)\(|\"\"\s*(?:\.(?:format|join)\(|%)",
        "a text with a size has the digits of one size, unless it is only printed, logged or the "
        "text of an exception: compute with the number itself, or compare it (if n == 4)",
    ),
    (
        r"\.get\(|\bset\(|\bdict\(|\{|\bhash\(|\bcache",
        "a key of a dict and a member of a set is a number: compare instead (if n == 4, "
        "if n in (1, 2), torch.sym_ite(n == 4, a, b)), or use a key that does not depend on a size",
    ),
    (
        r"==|!=|\bif\b|\bassert\b",
        "the condition fixes the size: trace an example for the other branch, or compute both "
        "(torch.sym_ite(condition, a, b) of numbers, torch.where of tensors)",
    ),
    (
        r"(?<![\w\])])\[[^\[\]]*\]\s*\*|\*\s*\[",
        "the length of a list is a number: make a tensor, torch.zeros(n) or torch.full((n,), a)",
    ),
    (
        r"\w\[[^\[\]:]*\b(?:shape|size)\b|\b(?!shape\b)\w+\[[a-z_]\w*\]",
        "an index of a list or tuple, and a key of a dict, is a number: index a tensor, "
        "torch.tensor(table)[n], or use a key that does not depend on a size",
    ),
)


def advice_for(cause: Provenance) -> str:
    """What to write in place of the line that pinned a size.

    Args:
        cause: the line, and the operator that asked for the size.
    """
    frame, operator = cause.frame, cause.operator
    if frame is not None and not is_user_file(frame.filename):
        return "use a layer that takes other sizes"
    if frame is not None and operator in (None, "aten.unbind.int", "aten.size.default"):
        return pin_advice(frame.line)
    return "change this line so that it holds for other sizes"


def pin_advice(line: str) -> str:
    """The advice for a line that pinned a size, as the fix of an error.

    Args:
        line: the text of the line.

    Example:
        >>> pin_advice("for i in range(x.shape[0]):").startswith("a Python loop becomes")
        True
    """
    line = _TEXT.sub(_without_letters, line)
    for pattern, text in _ADVICE:
        if re.search(pattern, line):
            return text.format(otherwise=_OTHERWISE)
    return _OTHERWISE


def _without_letters(text: re.Match[str]) -> str:
    formatted = "f" in text.group().partition(text.group()[-1])[0].lower()
    return 'f""' if formatted else '""'
