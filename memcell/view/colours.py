"""The colours of all pictures: from Okabe and Ito's set, which people of every colour vision tell apart.

Okabe and Ito, "Color Universal Design" (2008), https://jfly.uni-koeln.de/color/. Chosen from it are those that
stand out from white and from JupyterLab's dark grey alike (contrast at least 3:1, WCAG 2.2 success criterion 1.4.11).
"""

from __future__ import annotations

KERNEL = "#0072B2"  # blue: the level of the kernel, and what a run kept
CHILDREN = "#009E73"  # bluish green: with the child processes
LIMIT = "#D55E00"  # vermillion: the limit, and runs that did not end well
