"""The networks and densities that the methods are made of."""

from __future__ import annotations

import torch
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch import Tensor, nn

from chainfree import fit_flow
from chainfree.energies import FourierMLP, Gaussian, GaussianMixture, Tilted
from chainfree.generators.flows import Flow

__all__ = ["FourierField", "fitted_flow", "fitted_mixture", "normal", "tilted_normal"]


def tilted_normal(seed: int) -> Tilted:
    """The energy of most methods: a perceptron over Fourier features that tilts a standard normal.

    Where a flow is the noise it is tilted in the normal's place; telescoping ratios have one such network a bridge.
    """
    return Tilted(normal(), FourierMLP(2, seed=seed))


def normal(scale: float = 1.0) -> Gaussian:
    return Gaussian(torch.zeros(2), scale**2 * torch.eye(2))


def fitted_mixture(rows: Tensor, components: int, seed: int) -> GaussianMixture:
    """Fitted to at most 5,000 rows by scikit-learn, and a fifth of it a wide normal.

    Between the modes a mixture has no mass, and the energy, which starts as a normal, would keep there what it has.
    """
    fitted = SklearnMixture(components, random_state=seed, reg_covar=1e-3, init_params="k-means++", max_iter=50)
    fitted.fit(rows[:5000].double().numpy())
    means = torch.cat([torch.from_numpy(fitted.means_), torch.zeros(1, 2)]).float()
    covariances = torch.cat([torch.from_numpy(fitted.covariances_), 1.3**2 * torch.eye(2).double().unsqueeze(0)])
    return GaussianMixture(means, covariances, weights=[*(0.8 * fitted.weights_), 0.2])


def fitted_flow(rows: Tensor, steps: int, seed: int) -> Flow:
    return fit_flow(rows[:20_000], transforms=2, steps=steps, every=steps, held_out=0.05, lr=4e-3, seed=seed)


class FourierField(nn.Module):
    """A vector field with the features of the energies' network."""

    def __init__(self, *, width: int, seed: int) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", FourierMLP(2, seed=seed).frequencies)
        features = 2 * self.frequencies.shape[1]
        self.layers = nn.Sequential(
            nn.Linear(features, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        phase = x @ self.frequencies
        field: Tensor = self.layers(torch.cat([phase.sin(), phase.cos()], dim=1))
        return field
