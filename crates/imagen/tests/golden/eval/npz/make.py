"""Writes archives for the tests of eval/npz.rs: statistics as pytorch-fid writes them, and what is none.

    python make.py        (NumPy 2)
"""

from pathlib import Path

import numpy

here = Path(__file__).parent
mu = numpy.array([0.5, -1.0, 2.25])
sigma = numpy.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.25], [0.0, -0.25, 3.0]])

numpy.savez_compressed(here / "compressed.npz", mu=mu, sigma=sigma)
numpy.savez(here / "stored.npz", mu=mu, sigma=sigma)
numpy.savez(here / "single.npz", mu=mu.astype(numpy.float32), sigma=sigma.astype(numpy.float32))
numpy.savez(here / "columns.npz", mu=mu, sigma=numpy.asfortranarray(sigma))
numpy.savez(here / "other.npz", features=sigma)
numpy.savez(here / "shapes.npz", mu=mu, sigma=sigma[:, :2])
numpy.savez(here / "integers.npz", mu=mu.astype(numpy.int64), sigma=sigma)
numpy.savez(here / "lopsided.npz", mu=mu, sigma=sigma + numpy.eye(3, k=1))
numpy.savez(here / "infinite.npz", mu=mu, sigma=sigma * numpy.inf)
