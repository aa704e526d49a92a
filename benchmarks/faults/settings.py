"""Small trainings, and the seed of everything."""

from __future__ import annotations

SEED = 20230706
NETWORK = ("--network.width", "16", "--network.depth", "1", "--threads", "1")
TRAINING = ("--batch", "32", "--checkpoint_every", "20", "--evaluate_every", "500", *NETWORK)
TINY = ("--steps", "2", "--batch", "8", "--network.width", "4", "--network.depth", "1", "--threads", "1")
