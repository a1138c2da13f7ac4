"""Text to pictures with a cascade of diffusion models, as in Imagen (arXiv:2205.11487), on an ordinary CPU.

    import imagen

    model = imagen.load()
    model.sample("a red apple").save("apple.png")

    for step in model.steps("a red apple", until="base"):
        print(step.stage, step.index, step.of, step.x_hat.shape)

    imagen.fid(drawn, real)  # arrays [n, h, w, 3] of uint8
"""

from ._imagen import (
    Drawing,
    Extractor,
    ImagenError,
    Model,
    Score,
    Stage,
    Step,
    Summary,
    __version__,
    fid,
    kid,
    load,
    precision_recall,
    set_threads,
)

__all__ = [
    "Drawing",
    "Extractor",
    "ImagenError",
    "Model",
    "Score",
    "Stage",
    "Step",
    "Summary",
    "__version__",
    "fid",
    "kid",
    "load",
    "precision_recall",
    "set_threads",
]
