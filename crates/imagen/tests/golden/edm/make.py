"""Steps of EDM's samplers as k-diffusion takes them, on data that are +1 and -1 with equal odds, of which the denoiser is known.

Run from anywhere: `python make.py FOLDER` (torch 2.15; FOLDER holds k-diffusion 0.1.1, of which only sampling.py is read). It
writes `edm.json`: the levels, and z before every step and at the end, divided by alpha.
"""

import importlib.util
import json
import pathlib
import sys
import types

import torch

folder = pathlib.Path(sys.argv[1])
for name in ("k_diffusion", "k_diffusion.utils", "torchdiffeq", "torchsde", "scipy", "scipy.integrate"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["k_diffusion"].utils = sys.modules["k_diffusion.utils"]
sys.modules["k_diffusion.utils"].append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
sys.modules["scipy"].integrate = sys.modules["scipy.integrate"]
sys.modules["torchdiffeq"].odeint = None
spec = importlib.util.spec_from_file_location("k_diffusion.sampling", folder / "k_diffusion/sampling.py")
sampling = importlib.util.module_from_spec(spec)
sampling.__package__ = "k_diffusion"
spec.loader.exec_module(sampling)


def denoise(x, sigma):
    return torch.tanh(x / sigma.view(-1, 1, 1, 1) ** 2)


torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
out = {}
for name, sampler in [("euler", sampling.sample_euler), ("heun", sampling.sample_heun)]:
    for spacing, sigmas in [
        ("rho", sampling.get_sigmas_karras(8, 0.002, 80.0, 7.0)),
        ("rho:3", sampling.get_sigmas_karras(5, 0.002, 80.0, 3.0)),
        ("log-snr", sampling.get_sigmas_exponential(6, 0.002, 80.0)),
    ]:
        x = 80.0 * torch.randn(1, 2, 2, 1)
        steps = []
        end = sampler(denoise, x, sigmas, callback=lambda step: steps.append(step["x"].flatten().tolist()), disable=True)
        out[f"{name} {spacing}"] = {
            "sigmas": sigmas[:-1].tolist(), "x": steps, "picture": end.flatten().tolist(),
        }
(pathlib.Path(__file__).parent / "edm.json").write_text(json.dumps(out, indent=1) + "\n")
