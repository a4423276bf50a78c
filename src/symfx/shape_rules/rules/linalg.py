"""Linear algebra: decompositions, inverses, solutions of equations, on batches of matrices."""

from __future__ import annotations

from typing import Any

import torch

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.elementwise import broadcast_shapes, into, named
from symfx.shape_rules.rules.layout import diagonal
from symfx.shape_rules.rules.matrices import matmul
from symfx.shape_rules.rules.reductions import reduced
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Sizes
from symfx.shape_rules.table import at_least, axis, exactly, is_size, rule

__all__: list[str] = []

_L = torch.linalg


def _matrix(x: Shape, what: str) -> tuple[Shape, Dim, Dim]:
    """The batch, the rows and the columns of matrices."""
    at_least(x, 2, what)
    return Shape(x[:-2]), x[-2], x[-1]


def _square(d: Sizes, x: Shape, what: str) -> tuple[Shape, Dim]:
    """The batch of square matrices, and their size."""
    batch, rows, columns = _matrix(x, what)
    return batch, d.equal(rows, columns, f"{what} takes square matrices")


@rule(
    *named("inverse", "matrix_exp", "cholesky", "cholesky_inverse", "matrix_power"),
    _L.inv,
    _L.cholesky,
    _L.matrix_exp,
    _L.matrix_power,
)
def of_square(d: Sizes, input: Shape, *settings: Any, **options: Any) -> Shape:
    """Keep the shape of square matrices."""
    batch, n = _square(d, input, "the operator")
    return Shape((*batch, n, n))


@rule(_L.inv_ex, _L.cholesky_ex)
def of_square_checked(d: Sizes, input: Shape, **options: Any) -> Any:
    """As `of_square`, with one error code for each matrix."""
    batch, n = _square(d, input, "the operator")
    return (Shape((*batch, n, n)), batch)


@rule(*named("det", "logdet"), _L.det)
def determinant(d: Sizes, input: Shape) -> Shape:
    """One number for each square matrix."""
    return _square(d, input, "the determinant")[0]


@rule(*named("slogdet"), _L.slogdet)
def sign_and_determinant(d: Sizes, input: Shape) -> Any:
    """Two numbers for each square matrix."""
    batch = determinant(d, input)
    return (batch, batch)


@rule(_L.cond, _L.matrix_rank)
def number_of_matrix(d: Sizes, input: Shape, *settings: Any, **options: Any) -> Any:
    """One number for each matrix."""
    if _has_tensors(settings, options):
        return UNKNOWN  # a tensor of bounds broadcasts with the batch
    if options.get("hermitian"):
        _square(d, input, "the operator")
    return _matrix(input, "the operator")[0]


def _has_tensors(settings: tuple[Any, ...], options: dict[str, Any]) -> bool:
    return any(isinstance(value, Shape) for value in (*settings, *options.values()))


@rule(_L.matrix_norm)
def matrix_norm(
    d: Sizes, A: Shape, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, **o: Any
) -> Shape:
    """One number for each matrix, which two dimensions make up."""
    at_least(A, 2, "matrix_norm")
    if len(dim) != 2:
        raise IllTypedError(f"matrix_norm takes two dimensions, not {tuple(dim)}")
    return reduced(d, A, dim, keepdim, "matrix_norm")


@rule(*named("pinverse"), _L.pinv)
def pseudo_inverse(d: Sizes, input: Shape, *settings: Any, **options: Any) -> Any:
    """Exchange rows and columns."""
    if _has_tensors(settings, options):
        return UNKNOWN
    if options.get("hermitian"):
        _square(d, input, "the pseudo-inverse")
    batch, rows, columns = _matrix(input, "the pseudo-inverse")
    return Shape((*batch, columns, rows))


@rule(*named("qr"), _L.qr)
def qr(d: Sizes, input: Shape, mode: Any = "reduced", **options: Any) -> Any:
    """An orthogonal matrix and a triangular one."""
    batch, m, n = _matrix(input, "qr")
    some = options.get("some", mode)
    k = d.compute("min", m, n)
    if some in ("complete", False):
        return (Shape((*batch, m, m)), Shape((*batch, m, n)))
    return (Shape((0,)) if some == "r" else Shape((*batch, m, k)), Shape((*batch, k, n)))


@rule(_L.svd)
def svd(d: Sizes, A: Shape, full_matrices: bool = True, **options: Any) -> Any:
    """Two orthogonal matrices, and the singular values between them."""
    batch, m, n = _matrix(A, "svd")
    k = d.compute("min", m, n)
    rows, columns = (m, n) if full_matrices else (k, k)
    return (Shape((*batch, m, rows)), Shape((*batch, k)), Shape((*batch, columns, n)))


@rule(*named("svd"))
def old_svd(
    d: Sizes, input: Shape, some: bool = True, compute_uv: bool = True, **options: Any
) -> Any:
    """As `svd`, with the second matrix not transposed."""
    batch, m, n = _matrix(input, "svd")
    k = d.compute("min", m, n)
    rows, columns = (k, k) if some and compute_uv else (m, n)
    return (Shape((*batch, m, rows)), Shape((*batch, k)), Shape((*batch, n, columns)))


@rule(_L.svdvals)
def singular_values(d: Sizes, A: Shape, **options: Any) -> Shape:
    """One vector for each matrix."""
    batch, m, n = _matrix(A, "svdvals")
    return Shape((*batch, d.compute("min", m, n)))


@rule(*named("ormqr"))
def product_with_q(
    d: Sizes, input: Shape, tau: Shape, other: Shape, left: bool = True, transpose: bool = False
) -> Shape:
    """The product of a matrix with the orthogonal matrix that reflectors describe."""
    batch, m, n = _matrix(input, "ormqr")
    others, rows, columns = _matrix(other, "ormqr")
    side = rows if left else columns
    d.equal(side, m, "ormqr multiplies a matrix with as many rows as the reflectors")
    given = exactly(tau, len(input) - 1, "ormqr")
    d.equal(given[-1], d.compute("min", side, n), "ormqr takes one factor for each reflector")
    for each in (others, given[:-1]):
        if len(each) != len(batch):
            raise IllTypedError(f"ormqr takes one batch, not {input} with {tau} and {other}")
        for one, own in zip(each, batch, strict=True):
            d.equal(one, own, "ormqr takes one batch")
    return other


@rule(_L.eigh, _L.eig)
def eigen(d: Sizes, A: Shape, *settings: Any, **options: Any) -> Any:
    """Eigenvalues and eigenvectors."""
    batch, n = _square(d, A, "eig and eigh")
    return (Shape((*batch, n)), Shape((*batch, n, n)))


@rule(_L.eigvalsh, _L.eigvals)
def eigenvalues(d: Sizes, A: Shape, *settings: Any, **options: Any) -> Shape:
    """One vector for each square matrix."""
    batch, n = _square(d, A, "eigvals")
    return Shape((*batch, n))


@rule(_L.solve)
def solve(d: Sizes, A: Shape, B: Shape, *, left: bool = True) -> Any:
    """One solution for each column of `B`, or one solution if `B` is a vector."""
    batch, n = _square(d, A, "solve")
    # A vector serves the whole batch; a batch of vectors must have exactly the batch of `A`.
    if len(B) == 1:
        d.equal(B[0], n, "solve takes one right side for each equation")
        return Shape((*batch, n))
    if len(B) == len(A) - 1 and all(
        d.compare("==", *pair) is True for pair in zip(A, B, strict=False)
    ):
        return B
    other, rows, columns = _matrix(B, "solve")
    d.equal(rows if left else columns, n, "solve takes one right side for each equation")
    common = broadcast_shapes(d, batch, other, what="the batches broadcast")
    return Shape((*common, rows, columns))


@rule(_L.solve_triangular)
def solve_triangular(
    d: Sizes, A: Shape, B: Shape, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Shape:
    """One solution for each column of `B`."""
    batch, n = _square(d, A, "solve_triangular")
    other, rows, columns = _matrix(B, "solve_triangular")
    d.equal(rows if left else columns, n, "solve takes one right side for each equation")
    common = broadcast_shapes(d, batch, other, what="the batches broadcast")
    return Shape((*common, rows, columns))


@rule(*named("cholesky_solve"))
def cholesky_solve(d: Sizes, B: Shape, L: Shape, upper: bool = False) -> Shape:
    """One solution for each column of `B`."""
    return solve_triangular(d, L, B, upper=upper)


@rule(*named("trace"))
def trace(d: Sizes, input: Shape) -> Shape:
    """One number."""
    exactly(input, 2, "trace")
    return Shape()


@rule(*named("kron"))
def kron(d: Sizes, input: Shape, other: Shape) -> Shape:
    """One copy of a tensor for each element of another."""
    rank = max(len(input), len(other))
    padded = ((1,) * (rank - len(x)) + tuple(x) for x in (input, other))
    return Shape(d.product(pair) for pair in zip(*padded, strict=True))


@rule(*named("addmv"))
def addmv(d: Sizes, input: Shape, mat: Shape, vec: Shape, **options: Any) -> Shape:
    """A matrix times a vector plus a tensor that broadcasts to the product."""
    return _added(d, input, matmul(d, exactly(mat, 2, "addmv"), exactly(vec, 1, "addmv")))


@rule(*named("addr"))
def addr(d: Sizes, input: Shape, vec1: Shape, vec2: Shape, **options: Any) -> Shape:
    """The outer product of two vectors plus a tensor that broadcasts to it."""
    return _added(d, input, Shape((*exactly(vec1, 1, "addr"), *exactly(vec2, 1, "addr"))))


@rule(*named("addbmm"))
def addbmm(d: Sizes, input: Shape, batch1: Shape, batch2: Shape, **options: Any) -> Shape:
    """The sum of products of matrices plus a tensor that broadcasts to it."""
    exactly(batch1, 3, "addbmm")
    exactly(batch2, 3, "addbmm")
    d.equal(batch1[0], batch2[0], "both operands of addbmm have one batch")
    return _added(d, input, matmul(d, Shape(batch1[1:]), Shape(batch2[1:])))


def _added(d: Sizes, input: Shape, to: Shape) -> Shape:
    return into(d, to, input)


@rule(*named("cross"))
def cross(d: Sizes, input: Shape, other: Shape, dim: Any = None) -> Shape:
    """The cross products of vectors of three entries along a dimension."""
    if len(input) != len(other):
        raise IllTypedError(f"cross takes tensors of one rank, not {input} and {other}")
    both = broadcast_shapes(d, input, other, what="the operands of cross broadcast")
    if dim is not None:
        for x in (input, other):
            d.equal(x[axis(dim, len(x), "cross")], 3, "vectors of cross have three entries")
    return both


@rule(_L.cross)
def linalg_cross(d: Sizes, input: Shape, other: Shape, *, dim: int = -1) -> Shape:
    """As `cross`, along the last dimension."""
    return cross(d, input, other, dim)


@rule(_L.vecdot)
def vecdot(d: Sizes, x: Shape, y: Shape, *, dim: int = -1, **options: Any) -> Shape:
    """The scalar products along one dimension."""
    both = broadcast_shapes(d, x, y, what="the operands of vecdot broadcast")
    i = axis(dim, len(both), "vecdot") - len(both)
    if x and y and -i <= min(len(x), len(y)):
        d.equal(x[i], y[i], "vecdot multiplies vectors of one length")
    return reduced(d, both, dim, False, "vecdot")


@rule(_L.multi_dot, torch.chain_matmul)
def multi_dot(d: Sizes, *matrices: Any, **options: Any) -> Any:
    """The product of several matrices; the first and the last may be vectors."""
    given = matrices[0] if len(matrices) == 1 and type(matrices[0]) in (list, tuple) else matrices
    if len(given) < 2:
        raise IllTypedError("multi_dot takes two tensors or more")
    for x in given[1:-1]:
        exactly(x, 2, "multi_dot")
    for x in (given[0], given[-1]):
        if len(x) not in (1, 2):
            raise IllTypedError(f"multi_dot takes matrices, and vectors at its ends, not {x}")
    result = given[0]
    for x in given[1:]:
        result = matmul(d, result, x)
    return result


@rule(*named("diag_embed"))
def diag_embed(d: Sizes, input: Shape, offset: Dim = 0, dim1: int = -2, dim2: int = -1) -> Shape:
    """Put the last dimension on the diagonal of matrices."""
    rank = len(at_least(input, 1, "diag_embed")) + 1
    i, j = (axis(k, rank, "diag_embed") for k in (dim1, dim2))
    if i == j:
        raise IllTypedError(f"diag_embed names dimension {dim1} twice")
    size = input[-1] + d.compute("max", offset, 0 - offset)
    rest = iter(input[:-1])
    return Shape(size if k in (i, j) else next(rest) for k in range(rank))


@rule(_L.diagonal)
def linalg_diagonal(
    d: Sizes, A: Shape, *, offset: Dim = 0, dim1: int = -2, dim2: int = -1
) -> Shape:
    """The diagonals of matrices."""
    return diagonal(d, A, offset, dim1, dim2)


@rule(torch.vander)
def vander(d: Sizes, x: Shape, N: Any = None, increasing: bool = False) -> Shape:
    """One row of powers for each entry of a vector."""
    exactly(x, 1, "vander")
    return Shape((*x, N if is_size(N) else x[-1]))


@rule(_L.vander)
def linalg_vander(d: Sizes, x: Shape, *, N: Any = None) -> Shape:
    """One row of at least two powers for each entry."""
    x = x or Shape((1,))
    d.require(">", x[-1] if N is None else N, 1, "vander takes at least two powers")
    return Shape((*x, N if is_size(N) else x[-1]))
