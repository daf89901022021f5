"""A sweep's report for a paper: figures, tables, a methods paragraph and one page that holds them all.

Owns how an answer is drawn and printed. Computes no statistics of its own: every number is the answer's. Imports
matplotlib and numpy, never torch or Ray, so that it runs beside the command line.
"""

from adadim_core.report.material import Curve, Material
from adadim_core.report.writing import write_report

__all__ = ["Curve", "Material", "write_report"]
