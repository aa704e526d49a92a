"""Every picture the program draws. Each function returns a ``matplotlib.figure.Figure``; ``save`` writes it.

Needs the extra ``chainfree[plot]``; the import of matplotlib waits until the first picture.
"""

from .density_panels import density_beside_truth
from .density_sheet import density_sheet
from .energy_landscape import landscape
from .files import save
from .heat_map import heat_map
from .histogram import energy_histogram
from .image_ranking import ranked_images
from .images import image_grid
from .reliability import reliability_diagrams
from .scatter import sample_panels
from .seed_curves import curves
from .slices import Panel, line_panels
from .training import training_curves

__all__ = [
    "Panel",
    "curves",
    "density_beside_truth",
    "density_sheet",
    "energy_histogram",
    "heat_map",
    "image_grid",
    "landscape",
    "line_panels",
    "ranked_images",
    "reliability_diagrams",
    "sample_panels",
    "save",
    "training_curves",
]
