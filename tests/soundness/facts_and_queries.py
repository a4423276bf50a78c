"""Random facts and questions about three integers, and two judges of the answers.

The judges are all points of a small box, and z3.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import programs
import z3

BOX = range(-4, 8)
NAMES = programs.INTS

# I stands for a program, V for a symbol, K for a constant.
_FACTS = """
V >= K;V <= K;V < V;V <= V;V + K <= V;V < V + K;V == V + K;V == K*V;V % 2 == 0;V % 3 == K % 3;
V % 4 == 2;V != K;K*V + V >= K;V*V >= K;V // 2 >= K;V // 3 == V;min(V, V) >= K;max(V, V) <= K + 3;
abs(V) <= 4;(V >= K) | (V <= K);(V >= K) & (V <= V + K);V*V == V;V*V <= V;V % V == 0;V - V >= K;
V + V == 4;V + V >= V;K <= V*V - V;V == V // 2;V == max(V, K);I >= K;I == V;I <= I;V > 0;V >= 1;
V >= 2;not (V == V);V == 2*V;V % 6 == V % 2;where(V > K, V, K) <= V;
(V == K) | (V == K) | (V == K);(V < V) | (V > V);(V == K) | (V == V);((V == K) | (V == K)) & (V <= V);
V + V == V + K;2*V == V + V;V - V == K;V + V + V == K;V / 2 <= K;V / V >= 1;floor(V / 2) == K;
(V % V == 0) & (V > 0);V*V == K*V;V*V == 4;V*V == V*V;V*V == 0;(V + K)*V == V*V + V;V*V <= K;V*V >= K;
V*V*V <= 8;V*V == V
""".replace("\n", "").split(";")
_QUERIES = """
V >= K;V < V;V <= V + K;V - V > K;V == V;V == V + K;V != K;I >= K;I == I;I <= I;I > I;I != I;
V % 2 == 0;I % 4 == K % 4;(V // 2)*2 == V;(V // 3)*3 <= V;V % 3 <= V;V*(V - 1) != 0;V*V >= V;
V*V >= 0;K*V + V >= K;min(V, V) == V;max(V, V) >= V + K;max(V, K) == V;min(V, K) >= I;V*V*V >= K;
abs(V) == V;abs(V - V) >= K;V // K <= V;V // V >= K;V % V >= 0;V % V < V;(V + V) % 2 == 0;
(I < I) | (I >= K);(V <= V) & (V >= K);where(V < V, V, V) <= V;not (I == K);V*V - V*V == 0;
(V + 1) // 2 >= V // 2;V*V + V != K;V & 3 <= 3;V << 1 >= V;K*V == K*V + K;
V // V * V <= V;V // V * V == V;V * (V // V) <= K;(V // V) * V + V % V == V;V / 2 >= K;V / V <= 1;
1 / V <= 1;0 < 1 / V;ceil(V / 2) >= V // 2;floor(V / 3) <= V;round(V / 2) >= K;V * 0.5 < K;
abs(V - 2.5) >= 0.5;sqrt(V * V) >= 0;trunc(V / K) == K;float(V) == V;(V*V + V) % 2 == 0;
V*(V - 1)*(V - 2) == 0;6 % V == 0;V*V <= K*V;V*V != V + K;V + V == K;2*V - V == K;V % V > V;V % V <= V;V // V >= -V;V // V <= V;
V // V <= -V;V*V + V*V >= 2*V*V;V*V + V*V >= K*V*V;V*V + K*V + V*V + K >= 0;V*V + K*V*V + 4*V*V >= 0;
2**abs(V) > V;3**abs(V) >= K*V;V*2**abs(V) >= V;2**abs(V) - V*V >= K;V <= 2;V >= K
""".replace("\n", "").split(";")


def fact(choose: Callable[[int], int]) -> str:
    """A random condition of a kind that occurs for shapes."""
    return _fill(_FACTS[choose(len(_FACTS))], choose)


def query(choose: Callable[[int], int], known: list[str]) -> str:
    """A random question, sometimes a fact or the opposite of a fact."""
    way = choose(12)
    if way == 0 and known:
        return known[choose(len(known))]
    if way == 1 and known:
        return f"not ({known[choose(len(known))]})"
    return _fill(_QUERIES[choose(len(_QUERIES))], choose)


def _fill(template: str, choose: Callable[[int], int]) -> str:
    text = ""
    for letter in template:
        if letter == "V":
            text += NAMES[choose(len(NAMES))]
        elif letter == "K":
            text += ("1", "0", "2", "3", "5", "(-1)", "(-2)", "4")[choose(8)]
        elif letter == "I":
            inner = programs.random_program(choose, "I", 2, exclude=frozenset("RB"))
            text += f"({inner})"
        else:
            text += letter
    return text


def all_points() -> list[dict[str, int]]:
    """The box."""
    return list(programs.points(dict.fromkeys(NAMES, BOX)))


def holding(condition: str, points: list[dict[str, int]]) -> list[dict[str, int]]:
    """The points at which a condition is defined and holds."""
    kept = []
    for point in points:
        try:
            if programs.run(condition, point):
                kept.append(point)
        except programs.UndefinedError:
            continue
    return kept


def satisfiable_fact(choose: Callable[[int], int], points: list[dict[str, int]]) -> tuple[str, Any]:
    """A fact that holds at some of the points, and these points."""
    for _ in range(20):
        candidate = fact(choose)
        left = holding(candidate, points)
        if left:
            return candidate, left
    return "True", points


def z3_counterexample(known: list[str], asked: str, answer: bool) -> str | None:
    """A point at which the facts hold and the answer is wrong, if z3 finds one."""
    program = programs.Z3Program({n: z3.Int(n) for n in NAMES})
    try:
        claims = [program.read(k) for k in known]
        condition = program.read(asked)
    except programs.BeyondZ3Error:
        return None  # only the box can judge it
    solver = z3.Solver()
    solver.set("timeout", 300)
    solver.add(*program.defined, *claims, condition != answer)
    return str(solver.model()) if solver.check() == z3.sat else None


def choose_by(seed: int) -> Callable[[int], int]:
    """A chooser for random programs: a function from n to a number below n."""
    picks = random.Random(seed)
    return lambda n: picks.randrange(n)
