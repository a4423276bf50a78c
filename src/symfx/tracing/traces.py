"""The result of `symfx.trace`: a graph that checks its inputs, verifies and explains itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symfx.errors import InputMismatchError, SymfxError
from symfx.symbolic_shapes import GuardProgram
from symfx.tracing.admission import CheckResult
from symfx.tracing.cost import Cost, cost_of
from symfx.tracing.narrowing import needless
from symfx.tracing.report import describe_trace, headline
from symfx.tracing.stated import Stated
from symfx.tracing.traced_model import TracedModel
from symfx.tracing.verification import MakeInputs, Run, Tolerance, Verification, verify

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from symfx.cache.front import CacheUse
    from symfx.explanation.answers import Explanation
    from symfx.explanation.questions import Subject, SubjectKind
    from symfx.explanation.rejections import Rejection

__all__ = ["Trace"]


class Trace(TracedModel):
    """A model as a graph with symbolic shapes, and the guards that the graph relies on.

    ``t(*args, **kwargs)`` takes the arguments that the model takes; it checks them and runs the
    graph. `graph_module` runs without a check. It takes one positional argument for each leaf of
    the traced arguments, in the order of the model's parameters.

    Attributes:
        graph_module: the graph. Parameters and buffers of a traced module are attributes of it,
            under their own qualified names. They are the module's own tensors, not copies:
            training the module or loading a state into it changes them here too, and the graph
            of a module in train mode updates running statistics as the module does.
        model: the model that was traced.
        notes: effects of the model that the graph leaves out, a sentence each.
        verification: the result of the last call of `verify`; None before the first.
        shape_env: the symbols and guards, a `symfx.symbolic_shapes.ShapeEnv`.
        stated: the conditions of ``where=``.
        traced_under: traces the model again under other conditions; None for a trace that was
            loaded from a file.
        cache_use: what the cache did for the trace; None without ``cache=``.
    """

    verification: Verification | None = None
    stated: tuple[Stated, ...] = ()
    traced_under: Callable[[Sequence[Stated]], Trace] | None = None
    cache_use: CacheUse | None = None

    def check(self, /, *args: Any, **kwargs: Any) -> CheckResult:
        """Whether the graph holds for these inputs; if not, a sentence for each reason.

        Args:
            args: the positional arguments of a call of the model.
            kwargs: its keyword arguments.

        Example:
            >>> import symfx
            >>> t = symfx.trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)])
            >>> print(t.check(torch.randn(3, 5)))
            these inputs do not fit:
              dimension 1 of arg0 is 5; it is static: 4 when traced
        """
        return self.admission.check(args, kwargs)

    def why_not(self, /, *args: Any, **kwargs: Any) -> Rejection:
        """Why the graph does not hold for these inputs, and the nearest inputs for which it does.

        There is one sentence for each cause: the guards that one line of the program asked for,
        or one dtype that differs in several inputs, are one cause.

        Args:
            args: the positional arguments of a call of the model. A text such as ``"f32[3, 7]"``
                may stand in place of a tensor; texts with the names of all inputs, such as
                ``"x: f32[3, 7]"``, in place of all arguments.
            kwargs: its keyword arguments.

        Returns:
            The causes; empty, and false, where `check` says that the inputs fit.

        Raises:
            SpecError: a text describes no input of the trace.

        Example:
            >>> import symfx
            >>> def halves(x):
            ...     return x.view(2, -1) if x.shape[0] % 2 == 0 else x
            >>> t = symfx.trace(halves, torch.ones(6), dynamic={"x": ("n",)})
            >>> print(t.why_not("f32[9]"))  # doctest: +ELLIPSIS
            these inputs do not fit:
              n is 9 (dimension 0 of x); the program needs n % 2 == 0
                at ...
            the nearest inputs that fit:
              x: f32[10]
        """
        from symfx.explanation.rejections import why_not  # costs time, and most traces ask nothing

        return why_not(self, args, kwargs)

    def explain(
        self, subject: Subject = None, /, *, kind: SubjectKind | None = None
    ) -> Explanation:
        """Why a dimension, a guard or a node is what it is.

        The answer has the conditions that give it, each with the fewest facts from which it
        follows, the operators that asked for them, and the lines of the program.

        Args:
            subject: the name of a dimension (``"seq"``), a size (``"x.shape[1]"``), a guard (one
                of `guards`, or its text), any other condition on dimensions, a node (its name, or
                the node), or None for all that is notable.
            kind: what a text names, where it could name several.

        Raises:
            SpecError: the text names nothing in the trace; the message has near names.

        Example:
            >>> import symfx
            >>> def rows(x):
            ...     return x.view(2, 8)
            >>> t = symfx.trace(rows, torch.ones(16), dynamic={"x": ("n",)}, strict=False)
            >>> print(t.explain("n"))  # doctest: +ELLIPSIS
            n is pinned to 16, because of ...; the graph holds for this value alone
              guard: n == 16, asked by aten.view.default
                at ...
              inputs: x.shape[0]
              in the example: 16
              to fix: change this line so that it holds for other sizes
        """
        from symfx.explanation.questions import explain_subject

        return explain_subject(self, subject, kind, self.verification)

    def guard_program(self) -> GuardProgram:
        """The conditions of the graph as a program: compiled Python, C, SMT-LIB.

        Its checker takes one argument for each input of the graph, as `graph_module` does, and
        checks sizes, strides and numbers. `check` also checks dtypes, devices and static values,
        and returns the reasons.

        Raises:
            SymfxError: a guard has a symbol that no input gives.

        Example:
            >>> import symfx
            >>> t = symfx.trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)])
            >>> t.guard_program().check(torch.randn(3, 5))
            False
        """
        return self.admission.program()

    def verify(
        self,
        shapes: int = 5,
        seed: int = 0,
        tolerance: Tolerance | None = None,
        make_inputs: MakeInputs | None = None,
        on_run: Callable[[Run], object] | None = None,
        where: str | Sequence[str] | None = None,
    ) -> Verification:
        """Run the graph and the model, and compare their results.

        They run at the example's shape and at other shapes that the guards admit. Conditions of
        ``where=`` that the program does not need are told among the remarks; to find them, the
        model is traced once more for each.

        Args:
            shapes: the number of shapes beside the example's.
            seed: the seed of shapes, values and the model's own random numbers.
            tolerance: the largest difference, both absolute and relative, between results that
                agree, or a pair (relative, absolute); by default that of
                `torch.testing.assert_close` for the dtype.
            make_inputs: a function that draws the inputs of the other shapes. It takes a dict
                with the size of each symbol, such as ``{"batch": 4}``, and returns the positional
                arguments of the model as a tuple, or its arguments by name as a dict. By default
                inputs are drawn in the manner of the example's. A shape at which the model itself
                fails on them is not comparable, and says nothing about the graph.
            where: conditions on the other shapes, such as ``"batch in {1, 8, 64}"``, in the
                language of shapes.

        Raises:
            SymfxError: an argument cannot be used, a tensor is on the meta device, or the trace
                was loaded without its model.
            InputMismatchError: the model itself fails on the example, or ``make_inputs`` draws
                inputs of other sizes than those asked for.
        """
        found = verify(
            self,
            shapes=shapes,
            seed=seed,
            tolerance=tolerance,
            make_inputs=make_inputs,
            on_run=on_run,
            where=where,
        )
        if self.stated and self.traced_under is not None:
            remarks = needless(self, self.stated, self.traced_under)
            found = replace(found, remarks=(*found.remarks, *remarks))
        self.verification = found
        return found

    def cost(self) -> Cost:
        """The operations, the parameters and the memory of the model, as polynomials.

        The table that ``print`` shows has a line for each module; `Cost.at` computes it at sizes.

        Example:
            >>> import symfx
            >>> t = symfx.trace(torch.nn.Linear(8, 4), torch.randn(3, 8), dynamic=[("n", None)])
            >>> str(t.cost().flops), t.cost().at(n=10).flops.value
            ('64*n', 640)
        """
        return cost_of(self)

    def save(self, path: str | Path, *, weights: bool = True, examples: bool = True) -> None:
        """Write the trace to a file, from which `symfx.load` reads it.

        The file is a zip of JSON and of tensors in safetensors. It has the graph, the symbols, and
        the guards with the lines that caused them. It has parameters, buffers and constants, the
        names and the structure of arguments and results, the example inputs, and the last
        verification. The file appears when it is complete; an older one of the name stays until
        then.

        Args:
            path: the file.
            weights: whether the file gets the values of parameters and buffers. Without them
                `symfx.load` needs the model to run the graph.
            examples: whether the file gets the values of the example inputs. `verify` draws its
                inputs from them.

        Raises:
            TraceFileError: the trace has a part that a file cannot hold; the message names it.
            OSError: the file cannot be written.
        """
        from symfx.handover.trace_files import write_trace  # costs time, and few traces are saved

        write_trace(self, Path(path), self.verification, weights=weights, examples=examples)

    def report(self, path: str | Path, *, verify: bool = True) -> None:
        """Write a report of the trace: one HTML file that opens in a browser without a network.

        The report has the graph, folded by modules, with a shape on each edge; the symbols, the
        guards and what pinned dimensions, each with the line that caused it; the verification; and
        the cost of each module. The file loads nothing, and runs no script but its own.

        Args:
            path: the file.
            verify: whether a trace that was not verified yet is verified first. A trace that
                cannot be, such as one loaded without its model, gets a report that says why.

        Raises:
            OSError: the file cannot be written.

        Example:
            >>> import symfx
            >>> t = symfx.trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)])
            >>> t.report("report.html")  # doctest: +SKIP
        """
        from symfx.html_report import write_report  # few traces are reported

        why = None
        if self.verification is None and verify:
            try:
                self.verify()
            except SymfxError as error:
                why = f"{error.what}."
        write_report(self, Path(path), self.verification, why)

    def to_exported_program(self) -> ExportedProgram:
        """The trace as a `torch.export.ExportedProgram`.

        The program is of torch.export's training dialect: operators may write in place, as the
        graph does. It has the model's parameters and buffers, the symbols with their ranges, the
        guards, and the structure of arguments and results. In sympy the name of a dimension has
        the prefix ``s_``, as torch's passes want it. What the trace relies on about the value of
        an input tensor (``.item()``) the program asserts when it runs. For programs that other
        passes decompose further, trace with ``pre_dispatch=True``, as `symfx.export` does.

        Raises:
            TracingError: torch.export has no form for a part of the trace.
        """
        from symfx.handover.exported_program import exported_program  # imports torch.export

        return exported_program(self)

    def to_model_explorer(self) -> dict[str, Any]:
        """The graph in the JSON format of Model Explorer, as data for `json.dump`.

        Nodes are grouped by module. Each has its expression, its operator, its line and the guards
        that it caused among its attributes; edges have shapes. Model Explorer opens the file.

        Example:
            >>> import symfx
            >>> t = symfx.trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)])
            >>> graph = t.to_model_explorer()["graphs"][0]
            >>> [node["label"] for node in graph["nodes"]]
            ['arg0', 'relu', 'output']
        """
        from symfx.explanation.nodes import guards_by_node
        from symfx.handover.model_explorer import model_explorer_graphs

        return model_explorer_graphs(self, guards_by_node(self))

    def to_mermaid(self) -> str:
        """The graph as a flowchart of Mermaid, which Markdown of GitHub and GitLab shows.

        Mermaid draws no more than 500 edges unless it is configured otherwise.

        Example:
            >>> import symfx
            >>> t = symfx.trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)])
            >>> print(t.to_mermaid().splitlines()[2])
              n0_1["relu: f32[n, 4]"]
        """
        from symfx.handover.diagrams import mermaid_text

        return mermaid_text(self, {})

    def to_dot(self) -> str:
        """The graph in DOT, the language of Graphviz: ``dot -Tsvg`` draws it.

        Example:
            >>> import symfx
            >>> t = symfx.trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)])
            >>> t.to_dot().splitlines()[0]
            'digraph "relu" {'
        """
        from symfx.explanation.nodes import guards_by_node
        from symfx.handover.diagrams import dot_text

        return dot_text(self, guards_by_node(self))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Check the inputs, then run the graph.

        Raises:
            InputMismatchError: the graph does not hold for these inputs.
        """
        leaves = self.admission.layout.flatten(args, kwargs)
        result = self.admission.check_leaves(leaves)
        if not result:
            error = InputMismatchError(
                str(result), fix="trace again: with these inputs, or with more dynamic dimensions"
            )
            error.refused = (self, leaves)
            raise error
        return self.run(leaves)

    def __repr__(self) -> str:
        return f"<symfx.Trace of {headline(self)}>"

    def _repr_html_(self) -> str:
        from symfx.tracing.notebook import trace_as_html

        return trace_as_html(self, self.verification)

    def __str__(self) -> str:
        return "\n".join(line.plain for line in describe_trace(self))
