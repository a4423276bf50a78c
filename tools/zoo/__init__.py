"""The zoo: tiny models of many architectures of transformers, traced and verified by a sweep.

    python -m tools.zoo               writes docs/zoo.md
    python -m tools.zoo bert resnet   prints the rows of some models
    python -m tools.zoo --list        prints the names of the models
    python -m tools.zoo --minimal     looks for guards that could be left out

Each model has random weights and two layers or so, and nothing is downloaded. Its batch is dynamic,
and where the architecture takes inputs of any length or size, so are the length, or the height and
the width. A row says what `symfx.trace` made of the model: the guards, each dimension that the
model's own code pins, with the line that did, and the comparison with the model at other shapes.

The models are those of `symfx.sweep.architectures`. The sweep is that of
``symfx sweep 'transformers:*'``: a run that was ended goes on where it was.
"""
