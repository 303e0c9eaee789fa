"""Why a pair scores as it does: phrases, saliency, the cone as a picture."""
