"""A run's folder as one page: `draw(workdir)` writes report.html and plots/*.png from the files that lie there, and from nothing else."""

from uscl.report.page import draw

__all__ = ["draw"]
