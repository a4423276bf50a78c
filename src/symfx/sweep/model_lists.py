"""The models of a sweep, from a file of TOML or from patterns of architectures."""

from __future__ import annotations

import difflib
import fnmatch
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from symfx.errors import SpecError
from symfx.shape_language import parse_condition, parse_input
from symfx.sweep.jobs import STEPS, Job

__all__ = ["Options", "jobs_of_patterns", "jobs_of_toml", "read_size", "read_steps"]

_PREFIX = "transformers:"
_OF_SWEEP = ("steps", "time_limit", "memory_limit", "shapes", "seed", "allow_pinned", "model")
_OF_MODEL = (
    "name", "target", "init", "inputs", "where", "train", "allow_pinned", "shapes", "seed", "steps",
    "time_limit", "memory_limit",
)  # fmt: skip
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MODELS, _SIZE = 10_000, 8 << 20


@dataclass(frozen=True)
class Options:
    """What the command line says about all models; it goes before what a file says.

    Attributes:
        steps: the steps; None for those of the file.
        time_limit: the seconds that a model may take.
        memory_limit: the bytes that its process may have.
    """

    steps: tuple[str, ...] | None = None
    time_limit: float | None = None
    memory_limit: int | None = None

    def applied(self, job: Job) -> Job:
        """A job with these options."""
        given = {
            name: value
            for name, value in (
                ("steps", self.steps),
                ("time_limit", self.time_limit),
                ("memory_limit", self.memory_limit),
            )
            if value is not None
        }
        return replace(job, **given)  # type: ignore[arg-type]


def read_steps(words: Sequence[str], where: str) -> tuple[str, ...]:
    """Steps by their names, in the order in which they are taken.

    Raises:
        SpecError: there is no step of a name.

    Example:
        >>> read_steps(["verify", "trace"], "--steps")
        ('trace', 'verify')
    """
    for word in words:
        if word not in STEPS:
            raise SpecError(
                f"there is no step {word!r}",
                where=where,
                fix=_near(word, STEPS) or f"the steps are {', '.join(STEPS)}",
            )
    wanted = set(words) | ({"trace"} if "verify" in words else set())
    return tuple(step for step in STEPS if step in wanted)


def read_size(text: str, where: str) -> int:
    """A number of bytes, such as ``500M`` or ``4G``.

    Raises:
        SpecError: the text is none.

    Example:
        >>> read_size("4G", "--memory-limit")
        4294967296
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?) ?([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise SpecError(f"{text!r} is no size of memory", where=where, fix="write 500M or 4G")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _near(word: str, known: Sequence[str]) -> str | None:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else None


# -- architectures ---------------------------------------------------------------------------------


def jobs_of_patterns(patterns: Sequence[str]) -> list[Job]:
    """The architectures of transformers that patterns such as ``transformers:bert*`` name.

    Raises:
        SpecError: a pattern names none.
    """
    if find_spec("transformers") is None:
        raise SpecError(
            "architectures need the package transformers, which is not installed",
            where=patterns[0],
            fix="pip install transformers",
        )
    from symfx.sweep.architectures import ARCHITECTURES  # imports torch

    jobs: dict[str, Job] = {}
    for text in patterns:
        pattern = text.removeprefix(_PREFIX)
        found = [name for name in ARCHITECTURES if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            raise SpecError(
                f"{text!r} names no architecture",
                where="MODELS",
                fix=_near(pattern, list(ARCHITECTURES))
                or "`symfx sweep 'transformers:*' --list` prints the names",
            )
        jobs.update((name, Job(name, "architecture", name)) for name in found)
    return list(jobs.values())


# -- TOML ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A table of the file, for messages about its keys.

    Attributes:
        path: the file.
        lines: its lines.
        first: the line at which the table begins, from 0.
        values: its keys and values.
        known: the keys that it may have.
    """

    path: Path
    lines: Sequence[str]
    first: int
    values: Mapping[str, Any] = field(default_factory=dict)
    known: Sequence[str] = ()

    def line(self, key: str) -> str:
        """The place of a key."""
        for number in range(self.first, len(self.lines)):
            text = self.lines[number]
            if number > self.first and text.lstrip().startswith("[["):
                break
            if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]", text.lstrip(" [")):
                return f"{self.path}:{number + 1}"
        return f"{self.path}:{self.first + 1}"

    def refusal(self, what: str, key: str, fix: str | None = None) -> SpecError:
        """The error about a key."""
        return SpecError(what, where=self.line(key), fix=fix)

    def check_keys(self) -> None:
        """Refuse a key that means nothing."""
        for key in self.values:
            if key not in self.known:
                fix = _near(key, self.known) or f"the keys are {', '.join(self.known)}"
                raise self.refusal(f"there is no key {key!r}", key, fix)

    def get(self, key: str, kinds: type | tuple[type, ...], kind: str, default: Any) -> Any:
        """The value of a key, which is of a kind."""
        value = self.values.get(key, default)
        wrong = not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool)
        if key in self.values and wrong:
            raise self.refusal(f"{key} is {value!r:.60}", key, f"give {kind}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; a text stands for a list of one."""
        value = self.values.get(key, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.refusal(f"{key} is {value!r:.60}", key, "give a list of texts")
        return tuple(value)


def jobs_of_toml(path: Path) -> list[Job]:
    """The jobs of a file; docs/sweep.md describes it.

    Raises:
        SpecError: the file is wrong; the error names the line.
    """
    if path.stat().st_size > _SIZE:
        raise SpecError(f"{path} is longer than {_SIZE} bytes", where="MODELS", fix="split it")
    try:
        text = path.read_text("utf-8")
        data = tomllib.loads(text)
    except UnicodeDecodeError:
        raise SpecError(f"{path} is not text", where="MODELS", fix="save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        place = f"{path}:{found[1]}" if found else str(path)
        what = re.sub(r"\s*\(at .*\)$", "", str(error))
        raise SpecError(f"this is no TOML: {what}", where=place, fix="correct this line") from None
    lines = text.splitlines()
    head = _Table(path, lines, 0, data, _OF_SWEEP)
    head.check_keys()
    models = data.get("model", [])
    if not isinstance(models, list) or not models or len(models) > _MODELS:
        raise head.refusal(
            f"{path} describes no models", "model", 'write [[model]], name = "...", target = "..."'
        )
    starts = [i for i, line in enumerate(lines) if re.match(r"\s*\[\[\s*model\s*\]\]", line)]
    jobs: dict[str, Job] = {}
    for number, values in enumerate(models):
        first = starts[number] if number < len(starts) else 0
        table = _Table(path, lines, first, values, _OF_MODEL)
        for job in _jobs_of_table(table, head):
            if job.name in jobs:
                raise table.refusal(
                    f"two models have the name {job.name!r}", "name", "give each a name of its own"
                )
            jobs[job.name] = job
    return list(jobs.values())


def _jobs_of_table(table: _Table, head: _Table) -> list[Job]:
    table.check_keys()
    target = table.get("target", str, "module:attribute, or transformers:NAME", None)
    if not target:
        raise table.refusal("the model has no target", "name", 'write target = "module:attribute"')
    common = _common(table, head)
    if target.startswith(_PREFIX):
        try:
            found = jobs_of_patterns([target])
        except SpecError as error:
            raise table.refusal(error.what, "target", error.fix) from None
        for key in ("init", "inputs", "where", "train"):
            if key in table.values:
                raise table.refusal(
                    f"an architecture of transformers has its own {key}", key, f"leave {key} out"
                )
        name = table.get("name", str, "a text", None)
        named = [replace(job, name=name) for job in found] if name and len(found) == 1 else found
        return [replace(job, directory=str(table.path.parent), **common) for job in named]
    inputs, where = table.texts("inputs"), table.texts("where")
    for key, texts, parse in (("inputs", inputs, parse_input), ("where", where, parse_condition)):
        for text in texts:
            try:
                parse(text, key)
            except SpecError as error:
                raise table.refusal(error.what, key, error.fix) from None
    job = Job(
        table.get("name", str, "a text", target),
        "target",
        target,
        init=_init(table),
        inputs=inputs,
        where=where,
        train=table.get("train", bool, "true or false", None),
        directory=str(table.path.parent),
        **common,
    )
    return [job]


def _init(table: _Table) -> tuple[str, ...]:
    values = table.get("init", dict, "a table, such as { width = 8 }", {})
    for name in values:
        if not name.isidentifier():
            raise table.refusal(f"{name!r} is no name of an argument", "init", "give an identifier")
    return tuple(f"{name}={value!r}" for name, value in values.items())


def _common(table: _Table, head: _Table) -> dict[str, Any]:
    """The settings that a model or else the head of the file gives."""
    found: dict[str, Any] = {}
    for key in ("steps", "time_limit", "memory_limit", "shapes", "seed", "allow_pinned"):
        owner = table if key in table.values else head
        if key not in owner.values:
            continue
        if key == "steps":
            found[key] = read_steps(owner.texts(key), owner.line(key))
        elif key == "memory_limit":
            size = owner.get(key, (str, int), 'a size, such as "4G"', None)
            found[key] = read_size(str(size), owner.line(key))
        elif key == "time_limit":
            found[key] = float(owner.get(key, (int, float), "seconds", None))
        elif key == "allow_pinned":
            found[key] = owner.get(key, bool, "true or false", None)
        else:
            found[key] = owner.get(key, int, "a whole number", None)
        limit = found[key]
        if isinstance(limit, float) and not 0 < limit < 1e9:
            raise owner.refusal(f"{key} is {limit:g}", key, "give a number of seconds above 0")
    return found
