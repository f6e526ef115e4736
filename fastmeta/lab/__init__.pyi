from fastmeta.lab.backward_sweep import Trace, trace
from fastmeta.lab.eigenvalues import Spectrum, spectrum
from fastmeta.lab.head_orders import Permutations, permutations
from fastmeta.lab.loss_surface import Landscape, landscape
from fastmeta.lab.meta_hessian import meta_hvp
from fastmeta.lab.page import Report, report
from fastmeta.lab.probe import Probe
from fastmeta.lab.representations import Similarity, similarity
from fastmeta.lab.rounding import Precision, precision
from fastmeta.lab.sharpness import InnerSpectrum, inner_spectrum

__all__ = [
    "InnerSpectrum",
    "Landscape",
    "Permutations",
    "Precision",
    "Probe",
    "Report",
    "Similarity",
    "Spectrum",
    "Trace",
    "inner_spectrum",
    "landscape",
    "meta_hvp",
    "permutations",
    "precision",
    "report",
    "similarity",
    "spectrum",
    "trace",
]
