"""The actions of the parser: what each rule of the grammar means, and what has no meaning.

lark is imported with this module, at the first text that is read.
"""

from __future__ import annotations

from typing import Any, Never

from lark import Token, Transformer_NonRecursive

from symfx.shape_language.syntax import (
    LARGEST_POWER,
    OPERATIONS,
    AnyTensor,
    Both,
    Call,
    Comparison,
    Condition,
    Constant,
    Dimension,
    Either,
    Expression,
    InputSyntax,
    IntInput,
    Leading,
    Member,
    Name,
    Negative,
    Not,
    Number,
    Operation,
    Parts,
    Size,
    TensorSyntax,
    TypeSyntax,
    Unknown,
    depth,
)
from symfx.shape_language.texts import Text
from symfx.shape_language.words import (
    INTEGER_BITS,
    NAME_FIX,
    NOTHING_SAID,
    dtype_of,
    is_dtype,
    literal_of,
    shortened,
    why_no_name,
)

__all__ = ["Actions"]

#: The largest size and int.
_LARGEST = 2**63 - 1
#: The most dimensions that a tensor may have, and the most levels of an expression or a type.
_RANK, _DEEPEST = 64, 50
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}
_EXAMPLES = {"float": "float=0.5", "bool": "bool=true", "str": "str='mean'"}
_DOWN, _UP = ("<=", "<"), (">=", ">")

Children = list[Any]


class Actions(Transformer_NonRecursive[Token, Any]):
    """The meaning of each rule, by the rule's name.

    Args:
        text: the text that is read.
    """

    def __init__(self, text: Text) -> None:
        super().__init__()
        self._text = text

    def _refuse(self, what: str, at: int, fix: str) -> Never:
        raise self._text.error(what, at, fix)

    def _integer(self, token: Token) -> int:
        digits, at = str(token), token.start_pos or 0
        if len(digits) > 1 and digits.startswith("0"):
            self._refuse(f"{shortened(digits)} begins with 0", at, "leave the zeros out")
        if len(digits) > len(str(_LARGEST)) or int(digits) > _LARGEST:
            self._refuse(
                f"the number has {len(digits)} digits and more than 64 bits",
                at,
                f"sizes and ints are at most {_LARGEST}",
            )
        return int(digits)

    def _signed(self, tokens: Children) -> int:
        """The integer that signs and digits say."""
        value = self._integer(tokens[-1])
        return -value if sum(str(sign) == "-" for sign in tokens[:-1]) % 2 else value

    def _shallow(self, tree: Any) -> Any:
        if depth(tree, _DEEPEST) > _DEEPEST:
            self._refuse(
                f"the expression has more than {_DEEPEST} levels", tree.at, "write a shorter one"
            )
        return tree

    # -- expressions ---------------------------------------------------------------------------

    def number(self, parts: Children) -> Number:
        """An integer."""
        return Number(self._integer(parts[0]), parts[0].start_pos)

    def name(self, parts: Children) -> Name:
        """A dimension."""
        return self._name(parts[0])

    def _name(self, token: Token) -> Name:
        why = why_no_name(str(token))
        if why is not None:
            self._refuse(f"{shortened(str(token))!r} {why}", token.start_pos or 0, NAME_FIX)
        return Name(str(token), token.start_pos or 0)

    def signed(self, parts: Children) -> Expression:
        """``-n`` or ``+n``."""
        sign, operand = parts
        return Negative(operand, sign.start_pos) if str(sign) == "-" else operand

    def chain(self, parts: Children) -> Expression:
        """A sum or a product of several parts."""
        result: Expression = parts[0]
        for sign, right in zip(parts[1::2], parts[2::2], strict=True):
            if str(sign) in ("//", "%") and _constant(right) == 0:
                self._refuse(
                    f"{Operation(str(sign), result, right)} divides by zero",
                    right.at,
                    "divide by another number",
                )
            result = Operation(str(sign), result, right, result.at)
            if len(parts) > 2 * _DEEPEST:
                self._refuse(
                    f"the expression has more than {_DEEPEST} parts",
                    result.at,
                    "write a shorter one",
                )
        return result

    def power(self, parts: Children) -> Operation:
        """``n**2``."""
        base, exponent = parts
        if self._integer(exponent) > LARGEST_POWER:
            self._refuse(
                f"the power {exponent} is larger than {LARGEST_POWER}",
                exponent.start_pos,
                "write a smaller one",
            )
        return Operation("**", base, self.number([exponent]), base.at)

    def call(self, parts: Children) -> Call:
        """``min(a, b)`` or ``max(a, b)``."""
        function, *arguments = parts
        if str(function).lower() not in ("min", "max"):
            self._refuse(
                f"{shortened(str(function))} is no function of sizes",
                function.start_pos,
                "the functions are min and max",
            )
        return Call(str(function).lower(), tuple(arguments), function.start_pos)

    # -- conditions ----------------------------------------------------------------------------

    def compared(self, parts: Children) -> Comparison:
        """A chain of comparisons."""
        rest = tuple((str(s), side) for s, side in zip(parts[1::2], parts[2::2], strict=True))
        return self._shallow(Comparison(parts[0], rest, parts[0].at))  # type: ignore[no-any-return]

    def member_of(self, parts: Children) -> Member:
        """``h in {1, 2}``."""
        of, negation, *values = parts
        numbers = tuple(self._integer(value) for value in values if value is not None)
        return self._shallow(Member(of, numbers, negation is not None, of.at))  # type: ignore[no-any-return]

    def no(self, parts: Children) -> Not:
        """The opposite of a condition."""
        part = parts[-1]
        return self._shallow(Not(part, part.at))  # type: ignore[no-any-return]

    def both(self, parts: Children) -> Condition:
        """Conditions joined by ``and``; one alone is itself."""
        if len(parts) == 1:
            return parts[0]  # type: ignore[no-any-return]
        return self._shallow(Both(tuple(parts), parts[0].at))  # type: ignore[no-any-return]

    def either(self, parts: Children) -> Condition:
        """Conditions joined by ``or``; one alone is itself."""
        if len(parts) == 1:
            return parts[0]  # type: ignore[no-any-return]
        return self._shallow(Either(tuple(parts), parts[0].at))  # type: ignore[no-any-return]

    # -- dimensions ----------------------------------------------------------------------------

    def unknown(self, parts: Children) -> Unknown:
        """``?``."""
        return Unknown(parts[0].start_pos)

    def leading(self, parts: Children) -> Leading:
        """``*dims`` or ``...``."""
        name = self._name(parts[1]).name if len(parts) > 1 else None
        return Leading(name, parts[0].start_pos)

    def sized(self, parts: Children) -> Dimension:
        """A size with its bounds and its example."""
        sizes: list[Expression] = [self._shallow(size) for size in parts[::2]]
        signs = [str(sign) for sign in parts[1::2]]
        plain = [_constant(size) for size in sizes]
        named = [i for i, value in enumerate(plain) if value is None]
        for size, value in zip(sizes, plain, strict=True):
            if value is not None and value < 0:
                self._refuse("a size cannot be negative", size.at, "write 0 or more")
        if not named:
            if signs:
                self._refuse(
                    "a range needs the name of a dimension", sizes[-1].at, "write 2 <= n <= 512"
                )
            return Size(Number(plain[0] or 0, sizes[0].at), at=sizes[0].at)
        if isinstance(sizes[0], Name) and sizes[0].name in NOTHING_SAID and not signs:
            return Unknown(sizes[0].at)
        if len(named) > 1:
            self._refuse(
                f"the bounds of a dimension are numbers, and {sizes[named[1]]} is none",
                sizes[named[1]].at,
                f"give the condition as where=, or by --where: "
                f"{sizes[named[0]]} {signs[named[1] - 1]} {sizes[named[1]]}",
            )
        return self._bounded(sizes, signs, plain, named[0])

    def _bounded(
        self, sizes: list[Expression], signs: list[str], plain: list[int | None], at: int
    ) -> Size:
        """The size whose bounds and example stand around it."""
        value = sizes[at]
        found: dict[str, int] = {}
        for i, sign in enumerate(signs):
            other = i if i < at else i + 1
            number = plain[other]
            assert number is not None  # the other sides are numbers
            if other not in (at - 1, at + 1) and not (other > at and sign in ("<=", "<", "=")):
                self._refuse(f"{value} is described twice", sizes[other].at, "describe it once")
            if sign == "=":
                if other < at or not isinstance(value, Name):
                    self._refuse(
                        f"an example size belongs to a name, and {value} is none",
                        sizes[other].at,
                        "write the example after the name, such as batch=4",
                    )
                kind = "example"
            elif sign in (*_DOWN, *_UP):
                kind = "low" if (sign in _DOWN) == (other < at) else "high"
                if sign in ("<", ">"):
                    number += 1 if kind == "low" else -1
            else:
                self._refuse(
                    f"{sign} is no bound of a dimension",
                    sizes[other].at,
                    f"write {value}={number} for an example size; give a condition as where=, or "
                    "by --where",
                )
            if kind in found or (kind == "example" and "high" in found):
                self._refuse(f"{value} is described twice", sizes[other].at, "describe it once")
            found[kind] = number
        low, high = found.get("low", 0), found.get("high")
        if high is not None and high < 0:
            self._refuse(f"no size is below {high + 1}", value.at, "give a larger bound")
        if high is not None and high < low:
            self._refuse(
                f"no size of {value} is at least {low} and at most {high}",
                value.at,
                "give a smallest size that is not above the largest",
            )
        return Size(value, found.get("low"), found.get("high"), found.get("example"), value.at)

    # -- types ---------------------------------------------------------------------------------

    def tensor(self, parts: Children) -> TensorSyntax:
        """A tensor."""
        dtype, bracket, *rest = parts
        at: int
        dims = [part for part in rest if isinstance(part, (Size, Unknown, Leading))]
        bound = [part for part in rest if isinstance(part, Token)]
        at = bracket.start_pos if dtype is None else dtype.start_pos
        name = None if dtype is None else dtype_of(str(dtype), at, self._text)
        if len(dims) > _RANK:
            self._refuse(
                f"a tensor has {len(dims)} dimensions",
                at,
                f"torch's tensors have at most {_RANK}",
            )
        several = [dim for dim in dims if isinstance(dim, Leading)]
        if several and (len(several) > 1 or several[0] is not dims[0]):
            self._refuse(
                f"{several[-1]} stands for leading dimensions",
                several[-1].at,
                "write it once, before the other dimensions",
            )
        below = None
        if bound:
            sign, *number = bound
            kind = name or "float32"
            if kind not in INTEGER_BITS:
                self._refuse(
                    f"only integers can be bounded, and these are {kind}",
                    sign.start_pos or 0,
                    "leave the bound out, or write an integer dtype such as i64",
                )
            below = self._signed(number)
            if not 1 <= below <= 2 ** INTEGER_BITS[kind]:
                self._refuse(
                    f"{kind} values below {below} cannot be drawn",
                    number[0].start_pos or 0,
                    f"give a bound from 1 to {2 ** INTEGER_BITS[kind]}",
                )
        return TensorSyntax(name, tuple(dims), below, at)

    def any_tensor(self, parts: Children) -> AnyTensor:
        """``?`` in the place of a type."""
        return AnyTensor(parts[0].start_pos)

    def literal(self, parts: Children) -> Constant:
        """A number or a quoted text."""
        first, last = parts[0], parts[-1]
        if last.type == "INT":
            return Constant(self._signed(parts), first.start_pos)
        value = literal_of(last, self._text)
        if sum(str(sign) == "-" for sign in parts[:-1]) % 2:
            value = -value
        return Constant(value, first.start_pos)

    def constant(self, parts: Children) -> Constant:
        """A value in the place of a type."""
        found: Constant = parts[0]
        return found

    def word(self, parts: Children) -> TypeSyntax:
        """A name in the place of a type."""
        word, at = str(parts[0]), parts[0].start_pos
        if word.lower() in _WORDS:
            return Constant(_WORDS[word.lower()], at)
        if word in NOTHING_SAID:
            return AnyTensor(at)
        if word == "int":
            return IntInput(None, at)
        end = at + len(word)
        if word in _EXAMPLES:
            self._refuse(f"the {word} needs a value", end, f"write it, such as {_EXAMPLES[word]}")
        if is_dtype(word):
            self._refuse(
                f"expected '[' after the dtype {word}, found the end",
                end,
                f"write {word}[] for a tensor without dimensions",
            )
        dtype_of(word, at, self._text)
        raise AssertionError(word)  # every name of a dtype was looked at

    def typed(self, parts: Children) -> TypeSyntax:
        """A type with a value: ``int=5``."""
        kind, *_, given = parts
        word = str(kind)
        if isinstance(given, Token):
            if str(given).lower() not in _WORDS:
                self._refuse(
                    f"expected a value, found {shortened(str(given))!r}",
                    given.start_pos or 0,
                    "write a number, a quoted text, true, false or none",
                )
            given = Constant(_WORDS[str(given).lower()], given.start_pos or 0)
        value = given.value
        if word == "int" and type(value) is int:
            return IntInput(value, kind.start_pos)
        if word == "float" and type(value) is int:
            value = float(value)
        if word not in ("int", "float", "bool", "str"):
            self._refuse(
                f"{shortened(word)!r} is no type that a value can have",
                kind.start_pos,
                "the types of values are int, float, bool and str",
            )
        if type(value).__name__ != word:
            an = "an" if word == "int" else "a"
            self._refuse(f"{value!r} is not {an} {word}", given.at, f"write a value of {word}")
        return Constant(value, given.at)

    def part(self, parts: Children) -> tuple[str, TypeSyntax, int]:
        """A member of a dict."""
        key, type_ = parts
        name = str(key) if key.type == "NAME" else literal_of(key, self._text)
        return name, type_, key.start_pos

    def parts_by_key(self, parts: Children) -> Parts:
        """The members of a dict."""
        members = [part for part in parts if part is not None]
        for i, (key, _, at) in enumerate(members):
            if any(key == earlier for earlier, *_ in members[:i]):
                self._refuse(f"the key {key!r} is given twice", at, "give it once")
        return self._nested(Parts(tuple((k, t) for k, t, _ in members), True, members[0][2]))

    def parts_in_order(self, parts: Children) -> Parts:
        """The members of a tuple."""
        members = [part for part in parts if part is not None]
        at = members[0].at if members else 0
        return self._nested(Parts(tuple(enumerate(members)), False, at))

    def _nested(self, parts: Parts) -> Parts:
        level: list[TypeSyntax] = [parts]
        for _ in range(_DEEPEST):
            level = [p for above in level if isinstance(above, Parts) for _, p in above.members]
            if not level:
                return parts
        self._refuse(f"the type has more than {_DEEPEST} levels", parts.at, "write a flatter one")

    # -- inputs --------------------------------------------------------------------------------

    def item(self, parts: Children) -> str | int:
        """A position or a key."""
        token = parts[0]
        return self._integer(token) if token.type == "INT" else str(literal_of(token, self._text))

    def member(self, parts: Children) -> str:
        """A key or an attribute."""
        return str(parts[0])

    def path(self, parts: Children) -> tuple[str, tuple[str | int, ...]]:
        """The name of an input, and the way to its part."""
        name, *steps = parts
        if len(steps) > _DEEPEST:
            self._refuse(f"the path has more than {_DEEPEST} steps", name.start_pos, "shorten it")
        return self._name(name).name, tuple(steps)

    def input(self, parts: Children) -> InputSyntax:
        """An input."""
        (name, steps), _, type_ = parts
        return InputSyntax(name, steps, AnyTensor(-1) if type_ is None else type_)


def _constant(size: Expression) -> int | None:
    """The value of an expression of numbers alone; None for one with names."""
    match size:
        case Number(value=value):
            return value
        case Negative(operand=part):
            inner = _constant(part)
            return None if inner is None else -inner
        case Operation(sign=sign, left=left, right=right):
            one, other = _constant(left), _constant(right)
            if one is None or other is None:
                return None
            if other == 0 and sign in ("//", "%"):
                return None
            return int(OPERATIONS[sign](one, other))
    return None
