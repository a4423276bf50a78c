"""The digest that is written piece by piece, and a record of the objects that it met.

`symfx.cache.description` says what the digest has.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from hashlib import blake2b
from typing import Any

import torch

from symfx.cache.code import Identity
from symfx.cache.refusal import NotCacheableError

__all__ = ["DigestWriter"]

#: Shorter texts are parts of too many names of variables.
_PART_OF_NAME = 3


class DigestWriter:
    """Writes the parts of things into one digest, each object once.

    Args:
        running: the functions that are known to run, by their identities.
        state: the parameters and buffers that a trace takes as inputs, whose elements no program
            reads while it is traced.

    Attributes:
        reached: the identities of all functions that were met, of those inside of others too.
        tensors: the tensors, each once, in the order in which they were met.
        shared: something outside of the model that a run may change without a trace of it: a
            container or an object that a function, a class or a closure holds; None if there is
            none.
    """

    def __init__(
        self, running: Collection[Identity] = (), state: Iterable[torch.Tensor] = ()
    ) -> None:
        self.reached: set[Identity] = set()
        self.tensors: list[torch.Tensor] = []
        self.shared: str | None = None
        self._running = running
        self._state = {id(tensor) for tensor in state}
        self._hash = blake2b(digest_size=24)
        self._seen: dict[int, int] = {}
        #: Objects that are made on the way stay alive, so that their ids are not given again.
        self._alive: list[Any] = []
        self._with_elements: set[int] = set()
        self._storages: dict[int, int] = {}
        self._where: list[str] = []
        #: How many functions, classes and closures are around; how many whose calls are cached.
        self._outside = self._all_run = 0
        self._texts: set[str] = set()
        #: Which variables of the environment count: None; "names", those that texts name; "parts",
        #: those with a text in their name; "all".
        self._environment: str | None = None
        self._composes = "names"
        #: Whether what is met is looked up by torch's own layers, which may read what they like.
        self._of_layer = False
        self._namespaces: set[tuple[int, tuple[str, ...]]] = set()

    def add(self, name: str, value: Any) -> None:
        """Add a value to the digest.

        Args:
            name: what the value is called in a reason.
            value: the value.

        Raises:
            NotCacheableError: a part of it cannot be compared.
        """
        try:
            self._part(name, value)
        except RecursionError:
            raise NotCacheableError(f"{name} is nested too deep") from None

    def missing(self) -> set[Identity]:
        """The functions that run, and that were not met so far."""
        return {one for one in self._running if one not in self.reached}

    def digest(self) -> str:
        """The digest of all that was added, as hexadecimal digits."""
        if self._environment is not None:
            values = {name: os.environ[name] for name in sorted(os.environ) if self._may_read(name)}
            self._write("environment", repr(values))
            self._environment = None
        return self._hash.hexdigest()

    def _may_read(self, name: str) -> bool:
        """Whether the functions that run may read this variable of the environment."""
        if self._environment == "all" or name in self._texts:
            return True
        return self._environment == "parts" and any(
            text in name for text in self._texts if len(text) >= _PART_OF_NAME
        )

    # -- writing -----------------------------------------------------------------------------------

    def _write(self, kind: str, text: str | bytes = b"") -> None:
        data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
        self._hash.update(b"%s %d:" % (kind.encode(), len(data)))
        self._hash.update(data)

    def _refuse(self, what: str) -> NotCacheableError:
        place = ".".join(part for part in self._where if part)
        return NotCacheableError(f"{place} {what}" if place else f"the model {what}")

    def _again(self, value: Any) -> bool:
        """Whether a value was met before, which is written then."""
        number = self._seen.get(id(value))
        if number is not None:
            self._write("again", str(number))
            return True
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        return False

    def _part(self, name: str, value: Any) -> None:
        """Write a part of a thing under its name."""
        self._where.append(name)
        self._write("name", name)
        self._value(value)
        self._where.pop()

    def _value(self, value: Any) -> None:
        """Write a value of any kind."""
        raise NotImplementedError

    def _note_shared(self, value: Any) -> None:
        if self._outside and self.shared is None:
            self.shared = ".".join(part for part in self._where if part)
