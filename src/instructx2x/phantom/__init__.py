"""The made chest: a radiograph computed from an analytic anatomy, with every mask known.

from instructx2x import phantom

made = phantom.chest(size=1024, body=phantom.BODIES["woman"], seed=3)
made.image                # (1024, 1024) float32 in [0, 1]
made.mask("heart")        # (1024, 1024) bool
made.lungs                # the right and the left lung, as an anatomist outlines them
"""

from instructx2x.phantom.body import BODIES, Body, any_body
from instructx2x.phantom.chest import Phantom, chest
from instructx2x.phantom.physics import Exposure

__all__ = ["BODIES", "Body", "Exposure", "Phantom", "any_body", "chest"]
