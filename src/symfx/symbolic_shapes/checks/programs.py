"""The guards of a ShapeEnv as programs: a compiled Python checker, a C function, SMT-LIB text."""

from __future__ import annotations

import functools
import itertools
import linecache
import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from symfx.algebra import Scalar, Term, substitute, to_python
from symfx.algebra.languages.c import C_SUPPORT, c_comment, c_function
from symfx.algebra.languages.smtlib import smtlib_script
from symfx.algebra.terms.linear import determined_symbols
from symfx.algebra.terms.sharing import plan
from symfx.errors import SymfxError
from symfx.symbolic_shapes.checks.sources import (
    InputRead,
    fresh_name,
    identifier_of,
    read_source,
)
from symfx.untrusted import one_line

if TYPE_CHECKING:
    from symfx.symbolic_shapes.records import InputFact, ShapeGuard
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = ["GuardCondition", "GuardInput", "GuardProgram"]

_C_PARAMETERS = {"int": "int64_t", "real": "double", "bool": "bool"}
_numbers = itertools.count()


@dataclass(frozen=True)
class GuardCondition:
    """One condition that a guard program checks.

    Attributes:
        term: the condition.
        reason: the user's line that needed a guard; for another condition, its subject.
    """

    term: Term
    reason: str

    def __str__(self) -> str:
        return f"{self.term}  # {self.reason}"


@dataclass(frozen=True)
class GuardInput:
    """One number that a guard program reads from its arguments.

    Attributes:
        name: its variable in the program, and its parameter in C.
        source: its source in the ShapeEnv: ``L['x'].size()[0]``.
        term: the symbol that stands for it in the conditions.
        expression: the Python that reads it from the arguments: ``x.size()[0]``.
    """

    name: str
    source: str
    term: Term
    expression: str


class GuardProgram:
    """The conditions on the inputs of a trace, to be checked by Python, C or a solver.

    `ShapeEnv.guard_program` makes it from the facts that the environment has at that time: the
    value of each size, stride and number of the inputs, the ranges of symbols, and the guards.
    A condition that cannot be computed for some inputs (a division by 0) does not hold.

    Attributes:
        parameters: the names of the checker's arguments.
        inputs: the numbers it reads from them, in the order of the C function's parameters.
        conditions: the conditions that it checks, each once.
        source: the checker as Python source.
        check: the compiled `source`: tells whether arguments fit, which are passed by position
            or by the names in `parameters`.

    Example:
        >>> import torch
        >>> from symfx.symbolic_shapes import ShapeEnv
        >>> from torch._dynamo.source import ConstantSource
        >>> env = ShapeEnv()
        >>> (n, m), _, _ = env.create_symbolic_sizes_strides_storage_offset(
        ...     torch.empty(4, 6), ConstantSource("x"))
        >>> bool(n * m % 8 == 0)
        True
        >>> program = env.guard_program()
        >>> program.check(torch.empty(2, 12)), program.check(torch.empty(3, 5))
        (True, False)
    """

    def __init__(
        self,
        inputs: Iterable[tuple[GuardInput, InputRead]],
        conditions: Iterable[GuardCondition],
        parameters: Iterable[str] = (),
    ) -> None:
        pairs = list(inputs)
        self.inputs = tuple(i for i, _ in pairs)
        self._reads = tuple(r for _, r in pairs)
        self.parameters = tuple(dict.fromkeys([*parameters, *(r.parameter for r in self._reads)]))
        unique: dict[Term, GuardCondition] = {}
        for condition in conditions:
            if condition.term.value is not True:
                unique.setdefault(condition.term, condition)
        self.conditions = tuple(unique.values())
        self._names = {i.term: i.name for i in self.inputs}
        self._taken = {*self.parameters, *self._names.values()}
        self._held = self._bases()
        self._taken.update(self._held.values())
        self._steps = plan([c.term for c in self.conditions], self._taken)
        self.source = self._python()
        self.check: Callable[..., bool] = self._compile(self.source, "check")

    @classmethod
    def of(
        cls,
        env: ShapeEnv,
        guards: Iterable[ShapeGuard] | None = None,
        *,
        parameters: Sequence[str] | None = None,
        facts: Iterable[InputFact] | None = None,
    ) -> GuardProgram:
        """The program of an environment.

        Args:
            env: the environment.
            guards: the guards to check; all of the environment's where not given.
            parameters: the names of the checker's arguments, in order; inputs of other names
                are not checked. By default all inputs, in the order of their symbols.
            facts: the values of sizes, strides and numbers; `ShapeEnv.input_facts` where not
                given.

        Raises:
            SymfxError: a guard is about a symbol that no input has.
        """
        builder = _Builder(env, parameters)
        return builder.build(
            env.guards if guards is None else guards,
            env.input_facts() if facts is None else list(facts),
        )

    def __len__(self) -> int:
        return len(self.conditions)

    def __repr__(self) -> str:
        return f"<GuardProgram of {', '.join(self.parameters)}: {len(self)} conditions>"

    # -- running ---------------------------------------------------------------------------------

    def read(self, *args: Any, **kwargs: Any) -> tuple[Scalar, ...]:
        """The numbers that the program reads from arguments, in the order of `inputs`."""
        result: tuple[Scalar, ...] = self._reader(*args, **kwargs)
        return result

    def failures(self, *args: Any, **kwargs: Any) -> tuple[GuardCondition, ...]:
        """The conditions that arguments do not satisfy."""
        values = self.read(*args, **kwargs)
        return tuple(
            c for c, holds in zip(self.conditions, self._tests, strict=True) if not holds(*values)
        )

    @functools.cached_property
    def _reader(self) -> Callable[..., tuple[Scalar, ...]]:
        names = "".join(f"{i.name}, " for i in self.inputs)
        lines = [f"def read({', '.join(self.parameters)}):", *self._reading("    ")]
        source = "\n".join([*lines, f"    return ({names})"]) + "\n"
        reader: Callable[..., tuple[Scalar, ...]] = self._compile(source, "read")
        return reader

    @functools.cached_property
    def _tests(self) -> tuple[Callable[..., bool], ...]:
        """A function of the numbers for each condition."""
        names = ", ".join(i.name for i in self.inputs)
        tests = []
        for condition in self.conditions:
            text = to_python(condition.term, self._names)
            source = (
                f"def holds({names}):\n    try:\n        return bool({text})\n"
                "    except (ArithmeticError, ValueError):\n        return False\n"
            )
            tests.append(self._compile(source, "holds"))
        return tuple(tests)

    def _compile(self, source: str, name: str) -> Any:
        # The source is generated from terms, and from sources that `read_source` took apart.
        filename = f"<symfx guards {next(_numbers)}>"
        scope: dict[str, Any] = {"math": math}
        exec(compile(source, filename, "exec"), scope)
        # Tracebacks show the source for as long as the function lives.
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        weakref.finalize(scope[name], linecache.cache.pop, filename, None).atexit = False
        return scope[name]

    # -- writing ---------------------------------------------------------------------------------

    def _bases(self) -> dict[str, str]:
        """A variable for each shape and each tuple of strides that several inputs belong to."""
        bases = [read.base for read in self._reads if read.base]
        held: dict[str, str] = {}
        for base in dict.fromkeys(b for b in bases if bases.count(b) > 1):
            held[base] = fresh_name(identifier_of(base), {*self._taken, *held.values()})
        return held

    def _reading(self, indent: str) -> list[str]:
        """The lines that read the inputs."""
        lines = []
        known: set[str] = set()
        for given, read in zip(self.inputs, self._reads, strict=True):
            if given.name == given.expression:
                continue  # the argument itself is the number
            text, held = given.expression, self._held.get(read.base)
            if held is not None:
                if held not in known:
                    known.add(held)
                    lines.append(f"{indent}{held} = {read.base}")
                text = held + text.removeprefix(read.base)
            lines.append(f"{indent}{given.name} = {text}")
        return lines

    def _python(self) -> str:
        reasons = {c.term: c.reason for c in self.conditions}
        body = self._reading("        ")
        names = dict(self._names)
        for step in self._steps:
            text = to_python(step.term, names)
            if step.name is not None:
                names[step.term] = step.name
                body.append(f"        {step.name} = {text}")
                continue
            reason = one_line(reasons[step.term])
            body.append(
                f"        if not {text if text.isidentifier() else f'({text})'}:  # {reason}"
            )
            body.append("            return False")
        lines = [f"def check({', '.join(self.parameters)}):"]
        if any("math." in line for line in body):
            lines.insert(0, "import math\n\n")
        if body:
            lines += ["    try:", *body]
            # Inputs without such a dimension or such a value do not fit.
            lines += [
                "    except (ArithmeticError, ValueError, IndexError):",
                "        return False",
            ]
        return "\n".join([*lines, "    return True"]) + "\n"

    def to_c(self, name: str = "check_guards") -> str:
        """A C file with a function that takes the `inputs` as parameters and tells if they fit.

        The file needs a compiler that has 128-bit integers (gcc, clang), ``-lm``, and
        ``-ffp-contract=off`` where guards are about doubles.

        Args:
            name: the function's name.

        Raises:
            ExpressionError: a guard calls an uninterpreted function.
        """
        fits = fresh_name(name, ())
        if fits != name or not name.isidentifier():
            raise SymfxError(f"{name!r} cannot name a function in C", fix="use another name")
        reasons = {c.term: c.reason for c in self.conditions}
        parameters = [(_C_PARAMETERS[i.term.sort], i.name) for i in self.inputs]
        where = "\n".join(f"   {i.name}: {c_comment(i.source)}" for i in self.inputs)
        function = c_function(name, parameters, self._steps, self._names, reasons)
        comment = f"/* Whether inputs fit.\n{where} */" if where else "/* Whether inputs fit. */"
        return f"{C_SUPPORT}\n{comment}\n{function}"

    def to_smtlib(self) -> str:
        """An SMT-LIB script that declares the `inputs` and asserts the conditions.

        A solver's ``sat`` means that some inputs fit; its model is an example.
        """
        where = "".join(f"; {i.name}: {one_line(i.source)}\n" for i in self.inputs)
        script = smtlib_script(
            [c.term for c in self.conditions],
            self._names,
            comments={c.term: c.reason for c in self.conditions},
            declare=[i.term for i in self.inputs],
        )
        return where + script


class _Builder:
    """Collects the numbers that a guard program reads, and the conditions that it checks."""

    def __init__(self, env: ShapeEnv, parameters: Sequence[str] | None) -> None:
        self.env = env
        self.wanted = None if parameters is None else [fresh_name(p, ()) for p in parameters]
        self.table = env.table
        self.inputs: dict[Term, tuple[GuardInput, InputRead]] = {}
        self.by_source: dict[str, Term] = {}
        self.parameters: set[str] = set()
        #: The symbols that no input equals, by the sizes from which they are computed.
        self.solutions: dict[Term, Term] = {}

    def build(self, guards: Iterable[ShapeGuard], facts: Sequence[InputFact]) -> GuardProgram:
        infos = self.env.symbol_table()
        sources = [f.source for f in facts] + [s for info in infos for s in info.sources]
        readable: dict[str, InputRead] = {}
        unreadable: dict[str, SymfxError] = {}
        for source in dict.fromkeys(sources):
            if source.startswith("<ephemeral") or "._base." in source:
                continue  # a size of a view's base, which only tracing reads
            try:
                read = read_source(source)
            except SymfxError as error:
                unreadable[source] = error
                continue
            if self.wanted is None or read.parameter in self.wanted:
                readable[source] = read
        self.parameters = {read.parameter for read in readable.values()}.union(self.wanted or ())
        # A symbol is read from an input that equals it.
        for info in infos:
            plain = [s for s in info.sources if s in readable]
            if plain:
                self._input(info.term, info.name, readable[plain[0]])
        self._solve(facts, readable)
        conditions: list[GuardCondition] = []
        sizes = self._sizes(facts, readable)
        for fact in facts:
            if fact.source not in readable:
                if fact.source not in unreadable or self.wanted is not None:
                    continue
                if fact.term.free_symbols <= self.inputs.keys():
                    raise unreadable[fact.source]
                continue
            if self.by_source.get(fact.source) is fact.term:
                continue
            read = readable[fact.source]
            label = self._label(fact, read)
            holds = self.table.eq(label, self._readable(fact.term))
            if read.measure.kind == "stride" and not fact.asked:
                holds = self._or_stride_is_idle(holds, read, sizes)
            conditions.append(GuardCondition(holds, fact.source))
        for info in infos:
            if info.term in self.inputs or info.term in self.solutions:
                conditions += self._range(info.term, info.lower, info.upper)
        for guard in guards:
            term = self._readable(guard.term)
            missing = [s for s in term.free_symbols if s not in self.inputs]
            if missing:
                names = ", ".join(sorted(s.name for s in missing))
                raise SymfxError(
                    f"the guard {guard.term} is about {names}, which no input has",
                    where=str(guard.provenance),
                    fix="leave it out: guard_program(guards=[...])",
                )
            conditions.append(GuardCondition(term, str(guard.provenance)))
        return GuardProgram(self.inputs.values(), conditions, self.wanted or ())

    def _solve(self, facts: Sequence[InputFact], readable: Mapping[str, InputRead]) -> None:
        """Express the symbols that no input equals by sizes that are multiples of them."""
        sizes = {
            fact.term: fact
            for fact in reversed(facts)
            if fact.source in readable and readable[fact.source].measure.kind in ("size", "value")
        }
        for symbol, term, factor, rest in determined_symbols(sizes, self.inputs):
            fact = sizes[term]
            label = self._label(fact, readable[fact.source])
            self.solutions[symbol] = (label - self._readable(rest)) // factor

    def _readable(self, term: Term) -> Term:
        """A term with the solutions in place of the symbols that no input equals."""
        return substitute(term, self.solutions) if self.solutions else term

    def _label(self, fact: InputFact, read: InputRead) -> Term:
        """The symbol of a number that is read to be compared."""
        # No symbol of the environment has such a name: theirs are identifiers.
        called = f"{fact.source} itself" if fact.source.isidentifier() else fact.source
        label = self.table.symbol(called, fact.term.sort)
        if label not in self.inputs:
            self._input(label, read.label, read)
        return label

    def _input(self, term: Term, name: str, read: InputRead) -> None:
        taken = self.parameters | {given.name for given, _ in self.inputs.values()}
        # A number that is an argument itself keeps the argument's name.
        own = read.parameter if read.expression == read.parameter else fresh_name(name, taken)
        self.inputs[term] = (GuardInput(own, read.source, term, read.expression), read)
        self.by_source[read.source] = term

    @staticmethod
    def _sizes(
        facts: Sequence[InputFact], readable: Mapping[str, InputRead]
    ) -> dict[str, dict[int | None, Term]]:
        """The sizes of each input, by dimension."""
        sizes: dict[str, dict[int | None, Term]] = {}
        for fact in facts:
            read = readable.get(fact.source)
            if read is not None and read.measure.kind == "size":
                sizes.setdefault(read.owner, {})[read.measure.dim] = fact.term
        return sizes

    def _or_stride_is_idle(
        self, holds: Term, read: InputRead, sizes: Mapping[str, Mapping[int | None, Term]]
    ) -> Term:
        """A condition on a stride, or a case in which strides do not matter.

        They do not matter where their dimension has one element, or the tensor has none.
        """
        around = sizes.get(read.owner, {})
        own = around.get(read.measure.dim)
        idle = [] if own is None else [self.table.le(own, self.table.one)]
        idle += [
            self.table.le(size, self.table.zero) for size in around.values() if size is not own
        ]
        open_cases = [c for c in idle if self.env.prover.decide(c) is not False]
        return self.table.or_(holds, *map(self._readable, open_cases))

    def _range(self, term: Term, low: int | None, high: int | None) -> list[GuardCondition]:
        table = self.table
        shown, term = term, self._readable(term)
        if low is not None and low == high:
            bounds = [table.eq(term, table.const(low))]
        else:
            bounds = [] if low is None else [table.le(table.const(low), term)]
            bounds += [] if high is None else [table.le(term, table.const(high))]
        return [GuardCondition(b, f"the range of {shown}") for b in bounds]
