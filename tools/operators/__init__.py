"""The operators that symfx traces, beside those that stock torch traces.

    python -m tools.operators               writes docs/operators.md
    python -m tools.operators add matmul    prints the rows of some operators

Each operator of torch's own test database that runs on CPU gets sample inputs in float32 and
int64. Each sample is traced with symbolic shapes in four forms: as a function, in place, with
`out=`, and as its gradient. A trace counts if the results of its graph equal those of the operator,
at the traced shapes and at one more shape that its guards admit. The same test decides for symfx
and for stock torch.
"""
