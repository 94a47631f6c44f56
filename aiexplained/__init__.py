"""AI Explained: the mechanisms behind the pages.

``import aiexplained`` is cheap: it loads neither torch nor Bokeh. Import the concept you want::

    from aiexplained.concepts import cacheweaver
"""

from aiexplained.registry import Claim, Concept, Reading, Source, Verdict

__version__ = "0.1.0"
__all__ = ["Claim", "Concept", "Reading", "Source", "Verdict", "__version__"]
