"""A prior for latents that are there already, as wide and as narrow as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import require_finite, require_in_unit_interval
from ..energies import Tilted
from ..engine.callbacks import Callback
from ..evaluation.log_z import LogZ
from ..perturbations import Gaussian, LogUniform
from .tabular_mixture import fit_tabular_mixture
from .tilted import TiltedFit, fit_tilted

__all__ = ["fit_latent_prior"]

_ITERATIONS = 30  # of EM


def fit_latent_prior(
    latents: Tensor,
    network: nn.Module,
    *,
    components: int = 64,
    prior_rows: float = 16.0,
    noise: tuple[float, float] = (0.02, 0.5),
    draws: int = 8,
    steps: int = 1500,
    batch: int = 256,
    lr: float = 1e-3,
    held_out: float = 0.1,
    seed: int = 0,
    device: torch.device | str | None = None,
    callbacks: Sequence[Callback] = (),
) -> TiltedFit:
    r"""A mixture of normals by EM and its tilt by energy discrepancy: :math:`p(z) = p_0(z)\, e^{-f(z)} / Z`.

    For the second of two stages: the latents of an autoencoder lie near a sheet that fills little of the standard normal's
    space, and what the decoder makes of the rest is no data (Dai and Wipf, "Diagnosing and Enhancing VAE Models", ICLR 2019,
    arXiv 1903.05789; with normals, Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020, arXiv
    1903.12436). A network alone would have to learn a density that falls by tens of nats within a tenth of a unit; the
    mixture knows where the sheet is, and the network learns how it bends. Draws and an estimate of log Z need no chain.

    Args:
        latents: one draw of each row's posterior, ``(N, latent_dim)``.
        network: f, ``(B, latent_dim) -> (B,)``; its last layer is set to zero.
        components, prior_rows: of the mixture, see :func:`fit_tabular_mixture`.
        noise: least and greatest variance of the perturbation, in squared units of the latents.
        draws, steps, batch, lr: see :func:`fit_tilted`. No steps: the mixture alone.
        held_out: share of the rows that the tilt is stopped by.
        seed: of everything random but the network's first weights.
        device: where to train the tilt and to stay; where the latents are, by default. The mixture is fitted on the CPU.
        callbacks: of the engine.

    Raises:
        ValueError: latents that are no finite table, or a setting out of its range.
        TrainingDivergedError: as :meth:`chainfree.Engine.fit`.
        KeyboardInterrupt: SIGINT or SIGTERM came.
    """
    if latents.dim() != 2:
        raise ValueError(f"latents must be rows of shape (N, latent_dim), got {tuple(latents.shape)}")
    require_finite("latents", latents)
    require_in_unit_interval("held_out", held_out)
    device = latents.device if device is None else torch.device(device)
    rows = latents.detach().cpu().float()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    held, kept = rows[order].tensor_split([round(held_out * len(rows))])
    base = fit_tabular_mixture(
        kept,
        [None] * rows.shape[1],
        components=components,
        prior_rows=prior_rows,
        iterations=_ITERATIONS,
        seed=seed,
    )
    if steps == 0:
        log_prob = float(base.log_prob(held).mean()) if len(held) else None  # here, before the mixture is moved
        energy = Tilted(base, network).to(device).eval().requires_grad_(False)
        return TiltedFit(energy, LogZ(0.0, 0.0, float(len(kept))), log_prob, log_prob, 0, "completed")
    return fit_tilted(
        kept,
        base,
        network,
        perturbation=Gaussian(t=LogUniform(low=noise[0], high=noise[1])),
        held_out=held if len(held) else None,
        draws=draws,
        steps=steps,
        batch=batch,
        lr=lr,
        seed=seed,
        device=device,
        callbacks=callbacks,
    )
